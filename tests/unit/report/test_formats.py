"""Log lines as kaniko writes them, byte for byte."""

from __future__ import annotations

import json
import time

import pytest

from pybuild.report.formats import formatter, quoted

NOON = 1_767_355_384.6  # 2026-01-02T12:03:04Z


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_color() -> None:
    line = formatter("color")("info", "Taking snapshot of files...", 12.9, NOON)
    assert line == "\x1b[36mINFO\x1b[0m[0012] Taking snapshot of files...                  \n"


def test_color_pads_to_44_columns_and_a_blank() -> None:
    line = formatter("color")("info", "x", 0, NOON)
    assert line.split("] ")[1] == "x" + 43 * " " + " \n"
    long = "y" * 60
    assert formatter("color")("info", long, 0, NOON).endswith(f"] {long} \n")


@pytest.mark.parametrize(
    ("level", "start"),
    [
        ("warning", "\x1b[33mWARN"),
        ("error", "\x1b[31mERRO"),
        ("fatal", "\x1b[31mFATA"),
        ("debug", "\x1b[37mDEBU"),
        ("trace", "\x1b[37mTRAC"),
    ],
)
def test_colors(level: str, start: str) -> None:
    assert formatter("color")(level, "m", 12345, NOON).startswith(f"{start}\x1b[0m[12345] m")


def test_color_with_time() -> None:
    assert formatter("color", timestamp=True)("info", "m", 0, NOON).startswith(
        "\x1b[36mINFO\x1b[0m[2026-01-02T12:03:04Z] m "
    )


def test_text() -> None:
    line = formatter("text")("info", "Retrieving image manifest debian:12", 0, NOON)
    assert line == 'time="2026-01-02T12:03:04Z" level=info msg="Retrieving image manifest debian:12"\n'
    assert formatter("text")("warning", "done", 0, NOON).endswith(" level=warning msg=done\n")


def test_times_have_the_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    assert 'time="2026-01-02T17:33:04+05:30"' in formatter("text")("info", "m", 0, NOON)
    monkeypatch.setenv("TZ", "<-03>3")
    time.tzset()
    assert 'time="2026-01-02T09:03:04-03:00"' in formatter("text")("info", "m", 0, NOON)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain-1.0/x@y^z+_", "plain-1.0/x@y^z+_"),
        ("", ""),
        ("a b", '"a b"'),
        ('say "x"\n\t\\', '"say \\"x\\"\\n\\t\\\\"'),
        ("\x1b[2J", '"\\x1b[2J"'),
        ("größer", '"größer"'),
        ("bad \udcff byte", '"bad \\xff byte"'),
        ("a\u2028b", '"a\\u2028b"'),
    ],
)
def test_quoting(text: str, result: str) -> None:
    assert quoted(text) == result


def test_json() -> None:
    line = formatter("json")("warning", 'a "b" <c> & d\né', 0, NOON)
    assert line.startswith(
        '{"level":"warning","msg":"a \\"b\\" \\u003cc\\u003e \\u0026 d\\né","time":"2026-01-02T12:03:04Z"}'
    )
    assert line.count("\n") == 1
    assert json.loads(line)["msg"] == 'a "b" <c> & d\né'
