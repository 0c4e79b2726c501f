"""The closing line of a build: what was built, and where the time went."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pybuild.events import Span
from pybuild.report.human import count, seconds, size

if TYPE_CHECKING:
    from pybuild.build.result import BuildResult

#: spans that contain others
_OUTER = frozenset({"build", "step"})


def closing_line(result: BuildResult, spans: Sequence[Span], total: float) -> str:
    """``Built DIGEST: 5 layers, 12.3 MB (3 new, 1.1 MB) in 4.2 s: run 2.1 s, extract 0.8 s``."""
    new = [layer for layer in result.layers if not layer.from_base]
    text = f"Built {result.digest}: {count(len(result.layers), 'layer')}, {size(sum(layer.size for layer in result.layers))}"
    if len(new) != len(result.layers):
        text += f" ({len(new)} new, {size(sum(layer.size for layer in new))})"
    text += f" in {seconds(total)}"
    kinds = where_time_went(spans)
    if kinds:
        text += ": " + ", ".join(f"{what} {seconds(took)}" for what, took in kinds)
    return text


def where_time_went(spans: Iterable[Span]) -> list[tuple[str, float]]:
    """Wall seconds during which each kind of work was under way, the most first; kinds overlap. Below 50 ms is left out."""
    by_kind: dict[str, list[tuple[float, float]]] = {}
    for span in spans:
        if span.what not in _OUTER:
            by_kind.setdefault(span.what, []).append((span.start, span.end))
    found = [(what, covered(times)) for what, times in by_kind.items()]
    return sorted(((w, t) for w, t in found if t >= 0.05), key=lambda item: -item[1])


def covered(times: list[tuple[float, float]]) -> float:
    """The length of the union of intervals."""
    total = 0.0
    until = float("-inf")
    for start, end in sorted(times):
        if end > until:
            total += end - max(start, until)
            until = end
    return total
