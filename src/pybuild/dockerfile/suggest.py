"""Names that somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 64


def distance(a: str, b: str) -> int:
    """Edits (insert, drop, replace, swap of neighbours) that lead from one text to the other."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        older, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]


def closest(word: str, options: Iterable[str]) -> str:
    """The option that ``word`` is most likely a misspelling of, ``""`` when none is near. Case does not count."""
    if not word or len(word) > _LONGEST:
        return ""
    lower = word.lower()
    best, found = max(1, min(3, (len(word) + 1) // 3)) + 1, ""
    for option in options:
        if not option or abs(len(option) - len(word)) >= best:
            continue
        steps = distance(lower, option.lower())
        if steps < best and steps < len(option):
            best, found = steps, option
    return found


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """A hint for an error message, ``""`` when no option is near."""
    found = closest(word, options)
    return f"did you mean {found}?" if found else ""
