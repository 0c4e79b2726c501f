"""Run workloads with pybuild and other builders, one after the other, and print what each needed.

For each workload the base and the context are made once. Then, for each round, each tool in turn builds it on a fresh
filesystem and pushes it to a new repository of a registry on loopback. A run that leaves no image there has failed. The
first round also counts the files in the layers. Ratios are against the first tool: above 1 it needs more than that one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator

from benchmarks import places, table
from benchmarks.check import read_result
from benchmarks.measure import Command, measure
from benchmarks.registry import Registry, serve
from benchmarks.samples import RealFiles
from benchmarks.table import Row, Run, Table
from benchmarks.tools import SYSTEM_PATH, Job, Tool, peer, pybuild
from benchmarks.workloads import ALL, Floor, Prepared, Setup, Workload

PROJECT = pathlib.Path(__file__).resolve().parent.parent


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--workload", default=",".join(ALL), help=f"names, separated by commas (default: all of {', '.join(ALL)})"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="size of the workloads; 0.02 is for a quick look")
    parser.add_argument(
        "--pybuild", default="pybuild", metavar="COMMAND", help="how pybuild is called, e.g. 'python3 -m pybuild'"
    )
    parser.add_argument("--pybuild-flags", default="", metavar="FLAGS", help="more flags for it")
    parser.add_argument("--without-pybuild", action="store_true", help="measure the peers only")
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        help="buildah, buildah-layers, executor=PATH or NAME=executor=PATH; repeated",
    )
    parser.add_argument("--no-floor", action="store_true", help="leave the reference programs out")
    parser.add_argument("--json", metavar="FILE", help="write every run there")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables there")
    parser.add_argument(
        "--scratch",
        default="/var/tmp",
        metavar="DIR",
        help="where the fresh filesystems' files lie (default: /var/tmp)",
    )
    parser.add_argument("--cache", default=str(PROJECT / ".cache"), metavar="DIR", help="where the Debian base is kept")
    parser.add_argument(
        "--place",
        choices=("loop", "tmpfs", "directory"),
        help="kind of the measured filesystem (default: the first that works)",
    )
    parser.add_argument("--timeout", type=float, default=1200, help="seconds for one run")
    options = parser.parse_args(argv)
    options.workload = [name for name in options.workload.split(",") if name]
    for name in options.workload:
        if name not in ALL:
            parser.error(f"no workload {name}; there are {', '.join(ALL)}")
    if options.scale <= 0 or options.rounds < 1:
        parser.error("--scale must be above 0, --rounds at least 1")
    return options


class Session:
    """What all workloads of one call share."""

    def __init__(self, options: argparse.Namespace, scratch: str, tools: list[Tool]) -> None:
        self.options = options
        self.scratch = scratch
        self.tools = tools
        self.kind: places.Kind = options.place or places.best_kind(scratch)
        self.files = RealFiles()
        self.failed = False

    @contextlib.contextmanager
    def place(self) -> Iterator[str]:
        os.sync()  # what earlier steps still have to write would be written during the run
        with places.place(self.scratch, self.kind) as place:
            yield place

    def run(self, workload: Workload) -> Table | None:
        """None when no tool of this session can take the workload."""
        tools = [tool for tool in self.tools if tool.kaniko or not workload.kaniko_only]
        if not tools:
            return None
        with self.place() as stored, self.place() as folder, serve(stored) as registry:
            setup = Setup(registry, folder, self.options.cache, self.options.scale, self.files)
            self.say(f"{workload.name}: preparing")
            ready = workload.prepare(setup)
            result = Table(workload.name, workload.title, ready.what)
            floors = () if self.options.no_floor else ready.floors
            result.rows = [Row(tool.name) for tool in tools] + [Row(floor.name, reference=True) for floor in floors]
            for number in range(1, self.options.rounds + 1):
                for row, tool in zip(result.rows, tools, strict=False):
                    self.note(workload, row, self.build(workload, ready, tool, registry, number))
                for row, floor in zip(result.rows[len(tools) :], floors, strict=True):
                    self.note(workload, row, self.floor(floor, number))
        return result

    def note(self, workload: Workload, row: Row, run: Run) -> None:
        row.runs.append(run)
        self.failed = self.failed or bool(run.failure)
        figures = f"{run.wall:.2f} s wall, {run.cpu:.2f} s cpu, {run.memory / 1e6:.0f} MB"
        self.say(f"{workload.name}: round {run.round}, {row.tool}: {run.failure or figures}")

    def build(self, workload: Workload, ready: Prepared, tool: Tool, registry: Registry, number: int) -> Run:
        slug = "".join(c if c.isalnum() else "-" for c in f"{workload.name}-{tool.name}".lower()).replace("--", "-")
        repository = f"built/{slug.strip('-')}-{number}"
        log = os.path.join(self.scratch, "log")
        with self.place() as place:
            job = Job(ready, place, registry.host, repository)
            pathlib.Path(log).unlink(missing_ok=True)
            with tool.around(job) as commands:
                used = measure(commands, log, self.options.timeout)
        if used.status:
            print(tail(log), file=sys.stderr)
            return Run(number, used.wall, used.cpu, used.memory, used.largest, failure=f"exit status {used.status}")
        try:
            result = read_result(registry, repository, "latest", ready.base_layers, count=number == 1)
        except (LookupError, ValueError) as error:
            print(tail(log), file=sys.stderr)
            return Run(number, used.wall, used.cpu, used.memory, used.largest, failure=str(error))
        failure = ""
        if number == 1 and ready.files not in (-1, result.files):
            failure = f"{result.files} files in the new layers instead of {ready.files}"
        return Run(
            number,
            used.wall,
            used.cpu,
            used.memory,
            used.largest,
            result.size,
            result.layers,
            result.files,
            used.left,
            failure,
        )

    def floor(self, floor: Floor, number: int) -> Run:
        log = os.path.join(self.scratch, "log")
        pathlib.Path(log).unlink(missing_ok=True)
        env = {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8"}
        with self.place() as place:
            if floor.before:
                measure((Command(("/bin/sh", "-c", floor.before), env, cwd=place),), log, self.options.timeout)
                os.sync()
            used = measure((Command(("/bin/sh", "-c", floor.script), env, cwd=place),), log, self.options.timeout)
        failure = f"exit status {used.status}: {tail(log)}" if used.status else ""
        return Run(number, used.wall, used.cpu, used.memory, used.largest, failure=failure)

    @staticmethod
    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def tail(log: str) -> str:
    """The last lines of a log, indented."""
    with contextlib.suppress(FileNotFoundError):
        return "\n".join("    " + line for line in pathlib.Path(log).read_text(errors="replace").splitlines()[-15:])
    return ""


def main(argv: list[str] | None = None) -> int:
    """Exit status 1 when any run failed. Tables on stdout, what is going on on stderr."""
    options = arguments(argv)
    tools = [] if options.without_pybuild else [pybuild(options.pybuild, extra=options.pybuild_flags)]
    tools += [peer(text) for text in options.peer]
    places.own_mounts()
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.scratch) as scratch:
        session = Session(options, scratch, tools)
        machine = {
            **table.describe_machine(),
            "filesystem": {
                "loop": "fresh ext4 in a file, loop-mounted",
                "tmpfs": "tmpfs",
                "directory": "an ordinary directory",
            }[session.kind],
            "scale": options.scale,
            "rounds": options.rounds,
            "tree MB": "highest sum of the resident sets of all its processes at one time, sampled",
            "process MB": "largest resident set of one of its processes, from the kernel",
        }
        tables = []
        for name in options.workload:
            measured = session.run(ALL[name])
            if measured is None:
                continue
            tables.append(measured)
            print(table.text(tables[-1]), flush=True)
            if options.json:
                pathlib.Path(options.json).write_text(json.dumps(table.as_json(tables, machine), indent=1) + "\n")
            if options.markdown:
                pathlib.Path(options.markdown).write_text(table.markdown(tables, machine))
    return 1 if session.failed else 0


if __name__ == "__main__":
    sys.exit(main())
