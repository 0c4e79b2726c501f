"""History entries of an image's config: one for each instruction, metadata ones with ``empty_layer`` (as BuildKit writes them)."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pybuild.dockerfile.instructions import Cmd, Entrypoint, Instruction, Run

COMMENT = "pybuild"


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, with nanosecond digits where there are any."""
    at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    text = at.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{at.microsecond:06d}".rstrip("0").rstrip(".") if at.microsecond else ""
    return f"{text}{fraction}Z"


def run_text(argv: Sequence[str], args: Mapping[str, str]) -> str:
    """What RUN's entry says: the declared ARGs it ran with, then its command line."""
    shown = [f"{k}={v}" for k, v in args.items()]
    prefix = f"|{len(shown)} {' '.join(shown)} " if shown else ""
    return f"RUN {prefix}{' '.join(argv)}"


def created_by(instruction: Instruction, argv: Sequence[str] | None, args: Mapping[str, str]) -> str:
    """The ``created_by`` text of an instruction. ``argv`` is the command line of RUN, CMD and ENTRYPOINT."""
    if isinstance(instruction, Run) and argv is not None:
        return run_text(argv, args)
    if isinstance(instruction, Cmd | Entrypoint) and argv is not None:
        return f"{type(instruction).__name__.upper()} {json.dumps(list(argv), ensure_ascii=False)}"
    return instruction.text


def entry(text: str, created: str, *, empty: bool) -> dict[str, Any]:
    """One entry of the config's history."""
    made: dict[str, Any] = {"created": created, "created_by": text, "comment": COMMENT}
    if empty:
        made["empty_layer"] = True
    return made
