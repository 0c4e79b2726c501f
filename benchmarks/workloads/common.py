"""What a workload is, and the parts that several share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.registry import BaseLayer, Registry
from benchmarks.samples import Item, RealFiles, busybox, write_layer

SEED = 20240229
PATH = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]}


@dataclass(frozen=True)
class Setup:
    """What a workload may use while it prepares. ``folder``: an empty directory that stays until the workload is over.

    ``cache``: a directory that stays from one driver run to the next. ``scale``: 1.0 is the full size.
    """

    registry: Registry
    folder: str
    cache: str
    scale: float
    files: RealFiles

    def scaled(self, number: int, least: int = 1) -> int:
        return max(least, round(number * self.scale))


@dataclass(frozen=True)
class Floor:
    """Ordinary programs doing the unavoidable part of the work, as a reference row.

    Shell scripts, run in an empty directory of a fresh place; ``before`` is not measured.
    """

    name: str
    script: str
    before: str = ""


@dataclass(frozen=True)
class Prepared:
    """A workload that is ready to be built.

    ``base_layers``: how many layers the base has; those after them are counted as the result. ``files``: how many regular
    files the new layers must have together, -1 when that is not known beforehand. ``what``: the size of it, in words.
    """

    context: str
    dockerfile: str
    what: str
    base_layers: int = 1
    files: int = -1
    mode: Literal["redo", "full"] = "redo"
    compression: Literal["gzip", "zstd"] = "gzip"
    floors: tuple[Floor, ...] = ()


@dataclass(frozen=True)
class Workload:
    """``kaniko_only``: it varies a setting that only kaniko-compatible builders have."""

    name: str
    title: str
    prepare: Callable[[Setup], Prepared]
    kaniko_only: bool = False


def dockerfile(setup: Setup, text: str, ignore: str = "") -> tuple[str, str]:
    """Write a Dockerfile beside an empty context; returns (context, dockerfile)."""
    context = os.path.join(setup.folder, "context")
    os.makedirs(context, exist_ok=True)
    path = os.path.join(setup.folder, "Dockerfile")
    with open(path, "w") as f:
        f.write(text)
    if ignore:
        with open(os.path.join(context, ".dockerignore"), "w") as f:
            f.write(ignore)
    return context, path


def push_busybox(setup: Setup) -> str:
    layer, _ = write_layer(os.path.join(setup.folder, "busybox.tar.gz"), busybox())
    return setup.registry.put_image("base/busybox", [layer], PATH)


def push_layers(setup: Setup, repository: str, layers: list[list[Item]]) -> tuple[str, list[BaseLayer], int]:
    """Write and push a base; returns its reference, its layers and the number of all entries."""
    done, entries = [], 0
    for number, items in enumerate(layers):
        layer, count = write_layer(os.path.join(setup.folder, f"layer{number}.tar.gz"), items)
        done.append(layer)
        entries += count
    return setup.registry.put_image(repository, done, PATH), done, entries


def extraction(layers: list[BaseLayer]) -> tuple[Floor, ...]:
    """GNU tar with igzip for the layers, and find for a walk of what they give."""
    script = "set -e; " + "; ".join(f"igzip -dc {layer.path} | tar -xp --numeric-owner" for layer in layers)
    walk = r"find . -printf '%p %y %m %U %G %s %T@ %C@ %i %l\n' > /dev/null"
    return Floor("igzip | tar -x", script), Floor("find -printf", walk, before=script)


def packing(source: str, zstd: bool = False) -> tuple[Floor, ...]:
    """GNU tar with a compressor, written to a file."""
    programs = ["zstd -1"] if zstd else ["pigz -1", "igzip -1"]
    folder, name = os.path.split(source)
    return tuple(Floor(f"tar | {program}", f"tar -C {folder} -c {name} | {program} -c > layer") for program in programs)


def in_full_mode(prepare: Callable[[Setup], Prepared]) -> Callable[[Setup], Prepared]:
    def prepare_full(setup: Setup) -> Prepared:
        return replace(prepare(setup), mode="full", floors=())

    return prepare_full
