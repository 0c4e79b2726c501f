"""Medians and ratios, as text, Markdown and JSON."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import asdict, dataclass, field

HEADER = (
    "tool",
    "wall s",
    "cpu s",
    "tree MB",
    "process MB",
    "layer MB",
    "wall ×",
    "cpu ×",
    "tree ×",
    "layer ×",
    "note",
)


@dataclass(frozen=True)
class Run:
    """One measured run; seconds and bytes. ``layer_size`` is 0 for a reference row. ``failure``: why it does not count."""

    round: int
    wall: float
    cpu: float
    memory: int
    largest: int
    layer_size: int = 0
    layers: int = 0
    files: int = -1
    left: int = 0
    failure: str = ""


@dataclass
class Row:
    """All runs of one tool on one workload. ``reference``: not a builder but a floor."""

    tool: str
    reference: bool = False
    runs: list[Run] = field(default_factory=list)

    @property
    def good(self) -> list[Run]:
        return [run for run in self.runs if not run.failure]

    def median(self, figure: str) -> float:
        return statistics.median([float(getattr(run, figure)) for run in self.good])


@dataclass
class Table:
    """One workload's rows; the first is what the others are divided by."""

    workload: str
    title: str
    what: str
    rows: list[Row] = field(default_factory=list)

    def cells(self) -> list[tuple[str, ...]]:
        first = next((row for row in self.rows if row.good and not row.reference), None)
        return [self._row(row, first) for row in self.rows]

    def _row(self, row: Row, first: Row | None) -> tuple[str, ...]:
        if not row.good:
            return (row.tool, *["–"] * 9, f"failed: {row.runs[-1].failure if row.runs else 'no run'}")
        wall, cpu, memory, size = (row.median(f) for f in ("wall", "cpu", "memory", "layer_size"))
        cells = [row.tool, f"{wall:.2f}", f"{cpu:.2f}", f"{memory / 1e6:.0f}", f"{row.median('largest') / 1e6:.0f}"]
        cells.append(f"{size / 1e6:.4g}" if size else "–")
        for figure, own in (("wall", wall), ("cpu", cpu), ("memory", memory), ("layer_size", size)):
            by = first.median(figure) if first and first is not row else 0
            cells.append(f"{own / by:.2f}" if by and own else "–")
        return (*cells, self._note(row))

    def _note(self, row: Row) -> str:
        notes = []
        bad = [run for run in row.runs if run.failure]
        if bad:
            notes.append(f"{len(bad)} of {len(row.runs)} runs failed: {bad[-1].failure}")
        counted = next((run for run in row.good if run.files >= 0), None)
        if counted:
            notes.append(f"{counted.layers} layer{'s' * (counted.layers != 1)}, {counted.files} files")
        if any(run.left for run in row.runs):
            notes.append("left processes behind")
        if row.reference:
            notes.append("reference")
        return ", ".join(notes)


def markdown(tables: list[Table], machine: dict[str, object]) -> str:
    lines = [f"- {key}: {value}" for key, value in machine.items()]
    for table in tables:
        lines += ["", f"### {table.workload}: {table.title} ({table.what})", ""]
        lines += ["| " + " | ".join(HEADER) + " |", "| --- |" + " ---: |" * 9 + " --- |"]
        lines += ["| " + " | ".join(cells) + " |" for cells in table.cells()]
    return "\n".join(lines) + "\n"


def text(table: Table) -> str:
    rows = [HEADER, *table.cells()]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEADER))]
    lines = [f"{table.workload}  {table.title} ({table.what})"]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(row[n].rjust(widths[n]) for n in range(1, 10)), row[10]]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def as_json(tables: list[Table], machine: dict[str, object]) -> dict[str, object]:
    return {"machine": machine, "workloads": [asdict(table) for table in tables]}


def describe_machine() -> dict[str, object]:
    model = "unknown"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory GiB": round(memory / (1 << 30), 1),
        "kernel": platform.release(),
    }
