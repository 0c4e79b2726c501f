"""An error as people see it: one line in kaniko's words, the place in the Dockerfile, a way out."""

from __future__ import annotations

from pybuild.errors import Interrupted, OutputError, Place, PybuildError, RunError

_COMPLETE = (
    "error checking push permissions",
    "error building image",
    "error pushing image",
    "kaniko should only be run",
)


def first_words(error: PybuildError) -> str:
    """What kaniko writes before the error of a phase."""
    if isinstance(error, Interrupted) or error.message.startswith(_COMPLETE):
        return ""
    if isinstance(error, OutputError) or error.message.startswith("failed to push"):
        return "error pushing image: "
    if isinstance(error, RunError):
        return "error building image: error building stage: "
    return "error building image: "


def error_text(error: PybuildError) -> str:
    """The lines for an error of a build, without a final newline. The first one alone says what went wrong, and where."""
    first, _, rest = error.message.partition("\n")
    place = f"{error.place}: " if error.place is not None and not isinstance(error, RunError) else ""
    lines = [f"{first_words(error)}{place}{first}"]
    if rest:
        lines.append(rest)
    if error.place is not None:
        lines += excerpt(error.place)
    if error.hint:
        lines.append(f"hint: {error.hint}")
    return "\n".join(lines)


def excerpt(place: Place) -> list[str]:
    """The line of the Dockerfile with a mark under the place: the column where it is known, else the first word."""
    if not place.text.strip():
        return [f"  at {place}"]
    text = place.text.split("\n", 1)[0].rstrip()
    number = str(place.line)
    pad = " " * len(number)
    start = len(text) - len(text.lstrip()) if place.column is None else min(place.column, len(text))
    length = max(1, len(text[start:].split(None, 1)[0])) if place.column is None and text[start:] else 1
    blank = "".join("\t" if c == "\t" else " " for c in text[:start])
    return [f"{pad}--> {place}", f"{number} | {text}", f"{pad} | {blank}{'^' * length}"]
