"""From a parsed Dockerfile to the graph of stages that have to be built. Pure data: no file, network or process is touched.

Matches BuildKit: only stages that the target needs are built; a FROM or ``--from`` may name an earlier stage (in any case),
its index, a named context or an image; a reference to a later stage is an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pybuild.build.scope import GlobalScope, global_scope
from pybuild.dockerfile.instructions import Add, Copy, Dockerfile, Instruction, Run, Stage
from pybuild.errors import DockerfileError
from pybuild.oci.platform import Platform

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a base or a ``--from`` comes from. ``kind`` ``stage``: ``stage`` is its index; ``context``: a named context,
    ``name`` its key; ``image``: ``name`` is the reference; ``scratch``: nothing."""

    kind: Literal["stage", "context", "image", "scratch"]
    name: str = ""
    stage: int = -1


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """A stage that is built. ``sources`` maps each ``--from`` text of its instructions to what it means."""

    stage: Stage
    base: Source
    platform: Platform
    instructions: tuple[Instruction, ...]
    sources: Mapping[str, Source] = field(default_factory=dict)

    @property
    def index(self) -> int:
        return self.stage.index

    @property
    def title(self) -> str:
        """The stage's name, or its index when it has none."""
        return self.stage.name or str(self.stage.index)

    def depends_on(self) -> set[int]:
        """Indexes of the stages that have to be finished first."""
        found = {s.stage for s in self.sources.values() if s.kind == "stage"}
        if self.base.kind == "stage":
            found.add(self.base.stage)
        return found


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in file order, those that the target needs; ``target`` is the index of the one that becomes the image."""

    stages: tuple[PlannedStage, ...]
    target: int
    scope: GlobalScope

    def stage(self, index: int) -> PlannedStage:
        return next(s for s in self.stages if s.index == index)

    def sources_on_disk(self) -> set[int]:
        """Indexes of the stages whose files others read (``COPY --from``, ``RUN --mount=from=``)."""
        return {s.stage for planned in self.stages for s in planned.sources.values() if s.kind == "stage"}

    def children(self, index: int) -> list[int]:
        """Indexes of the stages that begin FROM this one."""
        return [p.index for p in self.stages if p.base.kind == "stage" and p.base.stage == index]


def make_plan(
    dockerfile: Dockerfile,
    *,
    target: str,
    build_args: Mapping[str, str],
    named_contexts: Mapping[str, str],
    build_platform: Platform,
    target_platform: Platform,
) -> Plan:
    """Resolve names, expand FROM lines and keep what ``target`` (a name or index, ``""`` for the last stage) needs.

    Raises ``DockerfileError`` for an unknown target, a bad FROM or a reference to a stage that comes later.
    """
    scope = global_scope(dockerfile, build_args, build_platform, target_platform, target)
    wanted = find_target(dockerfile, target)
    planned = {s.index: plan_stage(dockerfile, s, scope, named_contexts, target_platform) for s in dockerfile.stages[: wanted + 1]}
    return Plan(tuple(reachable(planned, wanted)), wanted, scope)


def reachable(planned: Mapping[int, PlannedStage], wanted: int) -> list[PlannedStage]:
    """The stages that ``wanted`` needs, itself included, in file order."""
    needed: set[int] = set()
    pending = [wanted]
    while pending:
        index = pending.pop()
        if index not in needed:
            needed.add(index)
            pending += planned[index].depends_on()
    return [planned[i] for i in sorted(needed)]


def find_target(dockerfile: Dockerfile, target: str) -> int:
    """The index of the target stage. Names are matched without regard to case; the last stage of that name wins."""
    if not target:
        return dockerfile.stages[-1].index
    for stage in reversed(dockerfile.stages):
        if stage.name and stage.name == target.lower():
            return stage.index
    names = [s.name for s in dockerfile.stages if s.name]
    close = difflib.get_close_matches(target.lower(), names, 1)
    hint = (
        f"did you mean {close[0]}?"
        if close
        else (f"the stages are: {', '.join(names)}" if names else "no stage has a name: add AS NAME to a FROM")
    )
    raise DockerfileError(f"{target} is not a valid target build stage: target stage {target!r} could not be found", hint=hint)


def plan_stage(
    dockerfile: Dockerfile,
    stage: Stage,
    scope: GlobalScope,
    named_contexts: Mapping[str, str],
    target_platform: Platform,
) -> PlannedStage:
    """One stage with its base and sources resolved."""
    place = stage.from_.place
    platform = target_platform
    if stage.from_.platform:
        text = scope.expand(stage.from_.platform, place)
        if not text:
            raise DockerfileError(
                f"empty platform value from expression {stage.from_.platform}", place=place, hint="give the ARG that it names a default"
            )
        from pybuild.oci.platform import parse_platform

        platform = parse_platform(text)
    image = scope.expand(stage.from_.image, place)
    if not image:
        raise DockerfileError(
            f"base name ({stage.from_.image}) should not be blank", place=place, hint="give the ARG that it names a default or --build-arg"
        )
    base = find_source(dockerfile, image, stage.index, named_contexts, numbers=False)
    return with_sources(dockerfile, stage, base, platform, stage.instructions, named_contexts, scope)


def with_sources(
    dockerfile: Dockerfile,
    stage: Stage,
    base: Source,
    platform: Platform,
    instructions: tuple[Instruction, ...],
    named_contexts: Mapping[str, str],
    scope: GlobalScope,
) -> PlannedStage:
    """A planned stage for these instructions (ONBUILD triggers included), with every ``--from`` looked up."""
    sources: dict[str, Source] = {}
    for instruction in instructions:
        for name in froms(instruction):
            found = find_source(dockerfile, name, stage.index, named_contexts, numbers=True)
            if found.kind == "stage" and found.stage >= stage.index:
                what = "itself" if found.stage == stage.index else f"stage {name!r}, which comes later"
                raise DockerfileError(f"invalid from flag value {name}: a stage cannot copy from {what}", place=instruction.place)
            sources[name] = found
    return PlannedStage(stage, base, platform, instructions, sources)


def froms(instruction: Instruction) -> list[str]:
    """The ``--from`` texts of an instruction: COPY's, and those of RUN's mounts."""
    if isinstance(instruction, Copy) and instruction.from_:
        return [instruction.from_]
    if isinstance(instruction, Run):
        return [m.from_ for m in instruction.mounts if m.from_]
    if isinstance(instruction, Add):
        return []
    return []


def find_source(dockerfile: Dockerfile, name: str, before: int, named_contexts: Mapping[str, str], *, numbers: bool) -> Source:
    """What a FROM (``numbers`` false) or ``--from`` text means for a stage: named context, earlier stage, index, scratch or image."""
    lower = name.lower()
    for key in named_contexts:
        if key.lower() == lower:
            return Source("context", key)
    for stage in reversed(dockerfile.stages[:before]):
        if stage.name == lower:
            return Source("stage", stage=stage.index)
    if numbers and name.isascii() and name.isdigit():
        index = int(name)
        if index < len(dockerfile.stages):
            return Source("stage", stage=index)
    if lower == SCRATCH:
        return Source("scratch")
    if numbers:
        later = [s for s in dockerfile.stages[before:] if s.name == lower]
        if later:
            return Source("stage", stage=later[0].index)
    return Source("image", name)
