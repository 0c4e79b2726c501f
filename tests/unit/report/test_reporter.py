"""What appears on the streams."""

from __future__ import annotations

import os
import pathlib
import pty
import subprocess
import sys
import threading

import pytest

from pybuild.events import Log, Progress, StepFinished, StepOutput, StepStarted
from pybuild.report.reporter import Reporter
from pybuild.report.streams import encoded, write_all
from pybuild.report.terminal import LiveLines


def test_levels(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter("text", "warning")
    for level in ("trace", "debug", "info", "warning", "error"):
        reporter.emit(Log(level, f"a {level}"))
    err = capfd.readouterr().err
    assert [line.split("msg=")[1] for line in err.splitlines()] == ['"a warning"', '"a error"']


def test_output_of_commands_is_not_touched(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    reporter = Reporter("json", "panic")
    reporter.emit(StepOutput(1, 1, b"half a li"))
    reporter.emit(StepOutput(1, 2, b"\xff\x00 to stderr\n"))
    reporter.emit(StepOutput(1, 1, b"ne\r\n"))
    captured = capfdbinary.readouterr()
    assert captured.out == b"half a line\r\n"
    assert captured.err == b"\xff\x00 to stderr\n"


def test_many_threads_do_not_tear_lines(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter("text")
    threads = [
        threading.Thread(target=lambda n=n: [reporter.emit(Log("info", f"{n}-" + "x" * 300)) for _ in range(50)])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 400
    assert all(line.startswith("time=") and line.endswith("x" * 300) for line in lines)


def test_a_slow_reader_of_a_non_blocking_pipe_gets_everything() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    data = os.urandom(1 << 20)
    got = bytearray()

    def read() -> None:
        while piece := os.read(reader, 1 << 16):
            got.extend(piece)

    thread = threading.Thread(target=read)
    thread.start()
    write_all(writer, data)
    os.close(writer)
    thread.join()
    os.close(reader)
    assert bytes(got) == data


def test_names_that_are_no_text() -> None:
    assert encoded("a\udcffb") == b"a\xffb"
    assert encoded("a\ud800b") == b"a?b"


def test_nobody_reads_any_more() -> None:
    """The first failing write ends the build as SIGTERM does; later ones are dropped."""
    code = (
        "import signal, sys\n"
        "from pybuild.events import Log\nfrom pybuild.report.reporter import Reporter\n"
        "signals = []\n"
        "signal.signal(signal.SIGTERM, lambda *a: signals.append(a[0]))\n"
        "r = Reporter('text')\n"
        "for _ in range(3): r.emit(Log('info', 'x'))\n"
        "sys.exit(7 if r.broken and signals == [signal.SIGTERM] else 1)\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as err:
        done = subprocess.run([sys.executable, "-c", code], stderr=err, timeout=60, check=False)
    assert done.returncode == 7


def lines_of(*events: object, columns: int = 80) -> list[str]:
    live = LiveLines(lambda data: None, threading.RLock(), lambda: columns)
    for event in events:
        live.note(event)  # type: ignore[arg-type]
    return live.lines(0.0)


def test_live_lines_show_what_runs() -> None:
    step = StepStarted(1, "build", 2, 5, "RUN make\n all")
    (line,) = lines_of(step)
    assert line.startswith("[build 2/5] ")
    assert line.endswith("RUN make")
    assert lines_of(step, StepFinished(1, "done", 1.0)) == []


def test_live_lines_show_transfers() -> None:
    assert lines_of(Progress("download", "abc", 500_000, 1_000_000)) == ["download abc: 500 kB of 1.0 MB (50 %)"]
    assert lines_of(Progress("upload", "abc", 500, 0)) == ["upload abc: 500 B"]
    assert lines_of(Progress("upload", "abc", 500, 0), Progress("upload", "abc", 10, 10)) == []


def test_live_lines_fit_the_terminal() -> None:
    (line,) = lines_of(StepStarted(1, "s", 1, 1, "RUN " + "x" * 200), columns=40)
    assert len(line) == 39
    many = lines_of(*(Progress("download", str(n), 1, 2) for n in range(20)))
    assert len(many) == 8
    assert many[-1] == "and 13 more"


def test_live_lines_have_no_control_characters() -> None:
    (line,) = lines_of(StepStarted(1, "s", 1, 1, "RUN \x1b[2J"))
    assert "\x1b" not in line


def test_live_lines_are_gone_at_the_end() -> None:
    screen = bytearray()
    live = LiveLines(screen.extend, threading.RLock(), lambda: 80)
    live.note(StepStarted(1, "s", 1, 1, "RUN x"))
    live.draw()
    assert b"RUN x" in screen
    screen.clear()
    live.erase()
    assert bytes(screen) == b"\x1b[1A\x1b[J"
    live.hold(True)
    screen.clear()
    live.draw()
    assert not screen


def test_a_terminal_gets_live_lines_and_loses_them(tmp_path: pathlib.Path) -> None:
    code = (
        "from pybuild.events import *\nfrom pybuild.report.reporter import Reporter\nimport sys\n"
        "r = Reporter()\n"
        "r.emit(StepStarted(1, 'stage', 1, 1, 'RUN sleep'))\n"
        "r._live.draw()\n"
        "r.emit(StepOutput(1, 1, b'from the command\\n'))\n"
        "r.emit(Log('info', 'from the log'))\n"
        "r.close()\n"
    )
    primary, secondary = pty.openpty()
    env = {**os.environ, "TERM": "xterm"}
    env.pop("CI", None)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=secondary, stdout=secondary, stderr=secondary, env=env
    )
    os.close(secondary)
    shown = b""
    try:
        while piece := os.read(primary, 65536):
            shown += piece
    except OSError:  # the other side was closed
        pass
    os.close(primary)
    assert process.wait() == 0, shown
    assert b"[stage 1/1]" in shown
    assert b"\x1b[1A\x1b[Jfrom the command\r\n" in shown
    assert b"from the log" in shown
    assert not shown.rstrip().endswith(b"RUN sleep")


def test_no_live_lines_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    reporter.emit(StepStarted(1, "stage", 1, 1, "RUN sleep"))
    reporter.close()
    assert capfd.readouterr().err == ""
