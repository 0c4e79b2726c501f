"""Takes a build's events and writes them: log lines to stderr, the output of commands to stdout and stderr as it comes."""

from __future__ import annotations

import os
import signal
import threading
import time

from pybuild.events import Event, Log, Span, StepOutput
from pybuild.report.formats import LEVELS, Format, formatter
from pybuild.report.streams import encoded, write_all
from pybuild.report.terminal import LiveLines, is_live

_STARTED = time.monotonic()


class Reporter:
    """Writes events. ``emit`` may be called from any thread.

    ``level`` is the least important level that is shown. When nobody reads what is written any more, the build is ended as by
    SIGTERM and ``broken`` is set.
    """

    def __init__(
        self, log_format: Format = "color", level: str = "info", *, timestamp: bool = False, live: bool | None = None
    ) -> None:
        self._format = formatter(log_format, timestamp=timestamp)
        self.shown = frozenset(LEVELS[: LEVELS.index(level) + 1])
        self._lock = threading.RLock()
        self.spans: list[Span] = []
        self.broken = False
        live = log_format == "color" and "info" in self.shown and is_live(2) if live is None else live
        self._live = LiveLines(lambda data: write_all(2, data), self._lock, columns) if live else None
        self._stdout_is_terminal = self._live is not None and os.isatty(1)
        if self._live is not None:
            self._live.start()

    def emit(self, event: Event) -> None:
        match event:
            case Log():
                self.log(event.level, event.message)
            case StepOutput():
                self._command_output(event.stream, event.data)
            case Span():
                with self._lock:
                    self.spans.append(event)
            case _ if self._live is not None:
                with self._lock:
                    self._live.note(event)

    def log(self, level: str, message: str) -> None:
        """Write a line of the log, if its level is shown."""
        if level in self.shown:
            line = self._format(level, message, time.monotonic() - _STARTED, time.time())
            self._put(2, encoded(line))

    def plain(self, text: str) -> None:
        """Write text to stderr as it is, after everything else."""
        self._put(2, encoded(text))

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            live, self._live = self._live, None
            try:
                live.stop()
            except OSError:
                self._broke()

    def _command_output(self, stream: int, data: bytes) -> None:
        with self._lock:
            self._put(stream, data)
            if self._live is not None and (stream == 2 or self._stdout_is_terminal) and data:
                self._live.hold(not data.endswith(b"\n"))

    def _put(self, fd: int, data: bytes) -> None:
        with self._lock:
            if self.broken:
                return
            try:
                if self._live is not None:
                    self._live.erase()
                write_all(fd, data)
            except OSError:
                self._broke()

    def _broke(self) -> None:
        if not self.broken:
            self.broken = True
            os.kill(os.getpid(), signal.SIGTERM)


def columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80
