"""What runs right now, in a few lines at the bottom of a terminal, below the log."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from pybuild.events import Event, Progress, StepFinished, StepStarted
from pybuild.report.human import seconds, size

_LINES = 8
_INTERVAL = 0.1


@dataclass(slots=True)
class Transfer:
    """Bytes of a transfer so far, and when it was last heard of."""

    done: int
    total: int
    seen: float


def is_live(fd: int) -> bool:
    """Whether a descriptor is a terminal whose cursor can be moved, with somebody in front of it."""
    return os.isatty(fd) and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("CI")


class LiveLines:
    """The lines. ``write`` puts bytes on the terminal; the caller holds ``lock`` while it calls any method."""

    def __init__(self, write: Callable[[bytes], None], lock: threading.RLock, columns: Callable[[], int]) -> None:
        self._write = write
        self._lock = lock
        self._columns = columns
        self._steps: dict[int, tuple[StepStarted, float]] = {}
        self._transfers: dict[tuple[str, str], Transfer] = {}
        self._drawn = 0
        self._held = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to redraw from time to time."""
        self._thread = threading.Thread(target=self._tick, name="terminal", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Remove the lines and draw no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self.erase()

    def _tick(self) -> None:
        while not self._stop.wait(_INTERVAL):
            try:
                with self._lock:
                    self.draw()
            except OSError:
                return

    def note(self, event: Event) -> None:
        """Remember what an event says about running work."""
        now = time.monotonic()
        match event:
            case StepStarted():
                self._steps[event.step] = (event, now)
            case StepFinished():
                self._steps.pop(event.step, None)
            case Progress():
                key = (event.what, event.name)
                if event.total and event.done >= event.total:
                    self._transfers.pop(key, None)
                else:
                    self._transfers[key] = Transfer(event.done, event.total, now)

    def hold(self, held: bool) -> None:
        """While the last line of a command's output is incomplete nothing is drawn: it would be torn apart."""
        self._held = held

    def erase(self) -> None:
        if self._drawn:
            self._write(b"\x1b[%dA\x1b[J" % self._drawn)
            self._drawn = 0

    def draw(self) -> None:
        lines = [] if self._held else self.lines(time.monotonic())
        data = b"\x1b[%dA\x1b[J" % self._drawn if self._drawn else b""
        data += b"".join(line.encode("utf-8", "replace") + b"\n" for line in lines)
        if data:
            self._write(data)
        self._drawn = len(lines)

    def lines(self, now: float) -> list[str]:
        """What is drawn: running steps, then transfers, cut to the terminal's width."""
        found = []
        for step, begin in self._steps.values():
            text = step.text.split("\n", 1)[0]
            found.append(f"[{step.stage} {step.number}/{step.total}] {seconds(now - begin)}  {printable(text)}")
        for (what, name), transfer in self._transfers.items():
            of = f" of {size(transfer.total)} ({100 * transfer.done // transfer.total} %)" if transfer.total else ""
            found.append(f"{what} {printable(name)}: {size(transfer.done)}{of}")
        if len(found) > _LINES:
            found = [*found[: _LINES - 1], f"and {len(found) - _LINES + 1} more"]
        width = max(20, self._columns() - 1)
        return [line if len(line) <= width else line[: width - 1] + "…" for line in found]


def printable(text: str) -> str:
    """Without anything that a terminal would act on."""
    return "".join(c if c.isprintable() else " " for c in text)
