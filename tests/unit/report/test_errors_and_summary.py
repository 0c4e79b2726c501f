"""Errors as people see them, the closing line, sizes and times."""

from __future__ import annotations

import pytest

from pybuild.build.result import BuildResult, LayerSummary
from pybuild.errors import DockerfileError, Interrupted, OutputError, Place, PybuildError, RegistryError, RunError
from pybuild.events import Span
from pybuild.report.errors import error_text
from pybuild.report.human import seconds, size
from pybuild.report.summary import closing_line, where_time_went


def test_place_with_column() -> None:
    error = DockerfileError(
        "unknown flag: --form", place=Place("Dockerfile", 3, 5, "COPY --form=a b c"), hint="did you mean --from?"
    )
    assert error_text(error).splitlines() == [
        "error building image: Dockerfile:3: unknown flag: --form",
        " --> Dockerfile:3",
        "3 | COPY --form=a b c",
        "  |      ^",
        "hint: did you mean --from?",
    ]


def test_place_without_column_marks_the_first_word() -> None:
    error = DockerfileError("unknown instruction: RUNN", place=Place("d/Dockerfile", 12, None, "  RUNN x"))
    assert error_text(error).splitlines()[1:] == ["  --> d/Dockerfile:12", "12 |   RUNN x", "   |   ^^^^"]


def test_marks_stand_right_below_tabs() -> None:
    error = DockerfileError("x", place=Place("D", 1, 1, "\tRUN"))
    assert error_text(error).splitlines()[-1] == "  | \t^"


def test_place_without_text() -> None:
    assert error_text(DockerfileError("x", place=Place("D", 7))).splitlines() == [
        "error building image: D:7: x",
        "  at D:7",
    ]


def test_a_column_beyond_the_line() -> None:
    assert error_text(DockerfileError("x", place=Place("D", 1, 99, "RUN"))).splitlines()[-1] == "  |    ^"


def test_run_error_has_kanikos_words_and_the_output() -> None:
    error = RunError(
        "failed to execute command: make: waiting for process to exit: exit status 2\nlast output:\n  no rule",
        exit_code=2,
        place=Place("Dockerfile", 2, None, "RUN make"),
    )
    lines = error_text(error).splitlines()
    assert lines[0] == (
        "error building image: error building stage: failed to execute command: make: waiting for process to exit: exit status 2"
    )
    assert lines[1:3] == ["last output:", "  no rule"]
    assert "RUN make" in lines[4]


@pytest.mark.parametrize(
    ("error", "first"),
    [
        (
            RegistryError("failed to push to destination r/x:1: no"),
            "error pushing image: failed to push to destination r/x:1: no",
        ),
        (OutputError("cannot write x"), "error pushing image: cannot write x"),
        (
            RegistryError("error checking push permissions -- make sure you entered the correct tag name"),
            "error checking push permissions -- make sure you entered the correct tag name",
        ),
        (Interrupted(15), "build interrupted by signal 15"),
        (
            PybuildError("kaniko should only be run inside of a container"),
            "kaniko should only be run inside of a container",
        ),
        (RegistryError("not found"), "error building image: not found"),
    ],
)
def test_first_words(error: PybuildError, first: str) -> None:
    assert error_text(error) == first


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (999_499, "999 kB"),
        (999_999, "1.0 MB"),
        (2_360_000_000, "2.4 GB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.97, "1m00s"), (125, "2m05s"), (3725, "1h02m")]
)
def test_times(value: float, text: str) -> None:
    assert seconds(value) == text


def test_time_of_work_side_by_side_counts_once() -> None:
    spans = [
        Span("run", "a", 0, 4),
        Span("run", "b", 1, 2),
        Span("run", "c", 3, 6),
        Span("layer", "d", 0, 1),
        Span("step", "e", 0, 9),
    ]
    assert where_time_went(spans) == [("run", 6.0), ("layer", 1.0)]


def test_closing_line() -> None:
    layers = (LayerSummary("sha256:1", 1_000_000, True), LayerSummary("sha256:2", 500_000, False))
    result = BuildResult("sha256:abc", b"", "", {}, layers)
    assert (
        closing_line(result, [Span("run", "a", 0, 2.5)], 3.0)
        == "Built sha256:abc: 2 layers, 1.5 MB (1 new, 500 kB) in 3.0 s: run 2.5 s"
    )
    alone = BuildResult("sha256:abc", b"", "", {}, layers[1:])
    assert closing_line(alone, [], 0.2) == "Built sha256:abc: 1 layer, 500 kB in 0.2 s"
