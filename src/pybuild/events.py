"""What a build tells while it runs. Rooms below ``report`` call ``emit(event)`` and know nothing of terminals.

``emit`` may be called from any thread and never blocks for long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["trace", "debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Log:
    """A line for the log, in kaniko's words where kaniko has them."""

    level: Level
    message: str


@dataclass(frozen=True, slots=True)
class StepStarted:
    """An instruction begins. ``stage`` is the stage's name or index, ``number`` 1-based within ``total`` of the stage."""

    step: int
    stage: str
    number: int
    total: int
    text: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """An instruction ended; ``outcome`` is ``done``, ``cached`` or ``failed``; ``seconds`` is its wall time."""

    step: int
    outcome: Literal["done", "cached", "failed"]
    seconds: float


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Bytes that a RUN command wrote: ``stream`` 1 is stdout, 2 is stderr. Not aligned to lines."""

    step: int
    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes moved so far in a transfer or layer, ``total`` 0 when unknown. ``what`` is e.g. ``download``, ``extract``,
    ``layer``, ``upload``; ``name`` a short digest or path."""

    what: str
    name: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Span:
    """A finished piece of work, for the trace and the closing line. Times in seconds of ``time.monotonic()``."""

    what: str
    name: str
    start: float
    end: float
    bytes: int = 0
    args: dict[str, str] = field(default_factory=dict)


Event = Log | StepStarted | StepFinished | StepOutput | Progress | Span
Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An ``Emit`` that drops everything."""
