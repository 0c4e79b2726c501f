"""A whole build: plan, bases, stages side by side, the image and its outputs. One TaskGroup; blocking work in threads."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pybuild._native import spawn
from pybuild._native.cancel import Cancel
from pybuild.build.bases import Base, Downloads, LayerSource, resolve_base
from pybuild.build.copy import SourceTree
from pybuild.build.effects import environment
from pybuild.build.media import media_types
from pybuild.build.options import BuildOptions
from pybuild.build.plan import Plan, PlannedStage, Source, make_plan, reachable, with_sources
from pybuild.build.result import BuildResult
from pybuild.build.scope import StageScope
from pybuild.build.session import Session
from pybuild.build.stage import FinishedImage, Stage, extract_tree, prepare_config
from pybuild.build.tree import Root
from pybuild.dockerfile.ignore import ignore_matcher
from pybuild.dockerfile.instructions import Dockerfile, Instruction, Run
from pybuild.dockerfile.parser import parse, parse_trigger
from pybuild.errors import ContextError, PybuildError, StorageError
from pybuild.events import Emit, Log, Span
from pybuild.layer.types import Layer
from pybuild.oci.blobs import BlobStore
from pybuild.oci.config import new_config
from pybuild.oci.platform import Platform, host_platform

if TYPE_CHECKING:
    from pybuild._native.match import Matcher
    from pybuild.registry.client import Registries
    from pybuild.registry.options import RegistryOptions


def read_dockerfile(options: BuildOptions, *, fail_on_findings: bool = True) -> Dockerfile:
    """Read and parse the Dockerfile; its findings are in the result, or raised when it says so and ``fail_on_findings`` is true."""
    try:
        with open(options.dockerfile, "rb") as f:
            data = f.read()
    except OSError as e:
        raise ContextError(
            f"cannot read {options.dockerfile_name}: {e.strerror}",
            hint="please provide a valid path to a Dockerfile within the build context with --dockerfile",
        ) from None
    check = options.build_args.get("BUILDKIT_DOCKERFILE_CHECK")
    return parse(data, options.dockerfile_name, check=check, fail_on_findings=fail_on_findings)


def ignore_rules(options: BuildOptions) -> Matcher | None:
    """The context's ignore file: ``<Dockerfile>.dockerignore`` beside the Dockerfile, else ``.dockerignore`` at the context's root."""
    for path in (f"{options.dockerfile}.dockerignore", os.path.join(options.context, ".dockerignore")):
        try:
            with open(path, "rb") as f:
                data = f.read()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as e:
            raise ContextError(f"cannot read {path}: {e.strerror}") from None
        return ignore_matcher(data, path)
    return None


@dataclass(slots=True)
class Build:
    """The state of one build while it runs; lives on the event loop's thread, stages run in worker threads."""

    session: Session
    dockerfile: Dockerfile
    plan: Plan
    platform: Platform
    registry_options: RegistryOptions
    loop: asyncio.AbstractEventLoop
    executor: ThreadPoolExecutor
    stages: dict[int, Stage] = field(default_factory=dict)
    finished: dict[int, asyncio.Event] = field(default_factory=dict)
    images: dict[tuple[str, str, str], asyncio.Task[Base]] = field(default_factory=dict)
    image_roots: dict[str, asyncio.Task[Root]] = field(default_factory=dict)
    uploads: list[asyncio.Task[Any]] = field(default_factory=list)
    roots: list[Root] = field(default_factory=list)
    _registries: Registries | None = None
    _downloads: Downloads | None = None

    # --- registries -------------------------------------------------------------------------------------------------

    def registries(self) -> Registries:
        """The registry client, made (and imported) when it is first needed."""
        if self._registries is None:
            from pybuild.registry.client import Registries

            self._registries = Registries(self.registry_options, self.session.emit)
        return self._registries

    def downloads(self) -> Downloads:
        if self._downloads is None:
            self._downloads = Downloads(self.registries, self.session.blobs)
        return self._downloads

    def sources(self, base: Base) -> list[LayerSource]:
        return self.downloads().sources(base)

    async def close(self) -> None:
        tasks: list[asyncio.Task[Any]] = [*self.uploads, *self.images.values(), *self.image_roots.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._registries is not None:
            await self._registries.close()
        for root in (*self.roots, *(stage.root for stage in self.stages.values())):
            if root is not None:
                root.close()

    # --- bases ------------------------------------------------------------------------------------------------------

    async def image(self, source: Source, platform: Platform) -> Base:
        """The image that a source names, resolved once a build."""
        named = self.session.options.named_contexts.get(source.name, "") if source.kind == "context" else ""
        key = (source.kind, source.name, str(platform))
        if key not in self.images:
            self.session.log(f"Retrieving image manifest {source.name}")
            self.images[key] = asyncio.ensure_future(resolve_base(source.name, named, platform, self.registries))
        return await asyncio.shield(self.images[key])

    def is_directory_context(self, source: Source) -> bool:
        value = self.session.options.named_contexts.get(source.name, "") if source.kind == "context" else ""
        return bool(value) and "://" not in value

    async def base_of(self, planned: PlannedStage) -> Base | None:
        """The base image of a stage, ``None`` for scratch and for another stage."""
        if planned.base.kind in ("scratch", "stage"):
            return None
        return await self.image(planned.base, planned.platform)

    # --- ONBUILD ----------------------------------------------------------------------------------------------------

    async def add_triggers(self) -> None:
        """Put the ONBUILD triggers of base images and base stages in front of their stages' instructions.

        A trigger may copy from another stage, which then has to be built too: repeated until nothing is new.
        """
        planned = {s.index: s for s in self.plan.stages}
        done: set[int] = set()
        while pending := [i for i in sorted(planned) if i not in done]:
            bases = await asyncio.gather(*(self.base_of(planned[i]) for i in pending))
            for index, base in zip(pending, bases, strict=True):
                done.add(index)
                stage = planned[index]
                triggers = self.triggers(stage, base, planned)
                if not triggers:
                    continue
                self.session.log(f"Executing {len(triggers)} build triggers")
                extended = (*triggers, *stage.instructions)
                planned[index] = with_sources(
                    self.dockerfile,
                    stage.stage,
                    stage.base,
                    stage.platform,
                    extended,
                    self.session.options.named_contexts,
                    self.plan.scope,
                )
                for other in sorted(planned[index].depends_on() - planned.keys()):
                    planned.update(self.plan_more(other))
        self.plan = Plan(tuple(reachable(planned, self.plan.target)), self.plan.target, self.plan.scope)

    def plan_more(self, index: int) -> dict[int, PlannedStage]:
        """A stage that only a trigger needs, with those that it needs."""
        more = make_plan(
            self.dockerfile,
            target="",
            build_args=self.session.options.build_args,
            named_contexts=self.session.options.named_contexts,
            build_platform=host_platform(),
            target_platform=self.platform,
        )
        by_index = {s.index: s for s in more.stages}
        if index in by_index:
            return {s.index: s for s in reachable(by_index, index)}
        from pybuild.build.plan import plan_stage

        found: dict[int, PlannedStage] = {}
        pending = [index]
        while pending:
            i = pending.pop()
            if i not in found:
                found[i] = plan_stage(
                    self.dockerfile, self.dockerfile.stages[i], self.plan.scope, self.session.options.named_contexts, self.platform
                )
                pending += found[i].depends_on()
        return found

    def triggers(self, stage: PlannedStage, base: Base | None, planned: dict[int, PlannedStage]) -> tuple[Instruction, ...]:
        """The ONBUILD instructions that fire at the start of a stage."""
        texts: list[str] = []
        if base is not None:
            texts = list(base.image.config.section.get("OnBuild") or ())
        elif stage.base.kind == "stage":
            from pybuild.dockerfile.instructions import Onbuild

            texts = [i.trigger for i in planned[stage.base.stage].instructions if isinstance(i, Onbuild)]
        return tuple(parse_trigger(text, place=stage.stage.from_.place, escape=self.dockerfile.escape) for text in texts)

    # --- stages -----------------------------------------------------------------------------------------------------

    def needs_disk(self, planned: PlannedStage) -> bool:
        """Whether a stage has to be on disk: a command runs in it, or others take files from it."""
        return planned.index in self.plan.sources_on_disk() or any(isinstance(i, Run) for i in planned.instructions)

    async def run_stages(self) -> None:
        """All stages, each as soon as those it needs are finished, ``--jobs`` at a time."""
        self.finished = {s.index: asyncio.Event() for s in self.plan.stages}
        jobs = asyncio.Semaphore(self.session.jobs)
        async with asyncio.TaskGroup() as group:
            for planned in self.plan.stages:
                group.create_task(self.run_stage(planned, jobs))

    async def run_stage(self, planned: PlannedStage, jobs: asyncio.Semaphore) -> None:
        base = await self.base_of(planned)
        if base is not None and self.needs_disk(planned) and not base.layout:
            # the download begins before the stage's turn comes
            self.downloads().sources(base)
        for index in sorted(planned.depends_on()):
            await self.finished[index].wait()
        trees, roots = await self.source_trees(planned)
        async with jobs:
            stage = self.make_stage(planned, base, trees, roots)
            self.stages[planned.index] = stage
            await self.in_thread(stage.execute)
        self.finished[planned.index].set()

    async def in_thread(self, call: Callable[[], object]) -> None:
        """Run blocking work in a worker thread; when this task is cancelled, the work is told and waited for."""
        future = self.loop.run_in_executor(self.executor, call)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            self.session.cancel.set()
            await asyncio.wait([future])
            # the error with which the work ended is a consequence, and nobody's business
            future.exception()
            raise

    def make_stage(self, planned: PlannedStage, base: Base | None, trees: dict[str, SourceTree], roots: dict[str, Root]) -> Stage:
        session = self.session
        scope = StageScope(self.plan.scope)
        inherited = None
        base_layers: Callable[[], Sequence[LayerSource]] = list
        if planned.base.kind == "stage":
            parent = self.stages[planned.base.stage]
            config = parent.config.copy()
            scope = parent.scope.copy()
            base = parent.base
            media = parent.media_types
            base_layers = parent.base_layers
            alone = len(self.plan.children(parent.planned.index)) == 1
            if alone and parent.planned.index not in self.plan.sources_on_disk() and parent.planned.index != self.plan.target:
                inherited = parent.release_tree()
            elif not self.needs_disk(planned) and parent.has_tree:
                inherited = parent.tree().copy()
        elif base is not None:
            config = base.image.config.copy()
            media = media_types(base.image.media_type, session.options.compression, session.options.image_format)
            base_layers = partial(self.sources, base)
        else:
            config = new_config(planned.platform)
            media = media_types("", session.options.compression, session.options.image_format)
        prepare_config(config)
        if planned.index == self.plan.target and session.options.labels:
            config.section["Labels"] = {**(config.section.get("Labels") or {}), **session.options.labels}
        if planned.base.kind != "stage":
            scope.env.update(environment(config.section))
        stage = Stage(
            session=session,
            planned=planned,
            base=base,
            base_layers=base_layers,
            config=config,
            scope=scope,
            media_types=media,
            on_disk=self.needs_disk(planned),
            source_tree=lambda name: trees[name],
            source_root=lambda name: roots[name],
            inherited=inherited,
            upload=planned.index in self.lineage(),
        )
        if planned.base.kind == "stage":
            stage.inherit(self.stages[planned.base.stage])
        return stage

    async def source_trees(self, planned: PlannedStage) -> tuple[dict[str, SourceTree], dict[str, Root]]:
        """The trees on disk that a stage's ``--from`` texts name."""
        trees: dict[str, SourceTree] = {}
        roots: dict[str, Root] = {}
        for name, source in planned.sources.items():
            ignore = None
            match source.kind:
                case "stage":
                    root = self.stages[source.stage].tree().root
                    assert root is not None, "a stage that others copy from is on disk"
                case "scratch":
                    root = self.opened(self.session.directory("scratch"))
                case "context" if self.is_directory_context(source):
                    path = self.session.options.named_contexts[source.name]
                    if not os.path.isdir(path):
                        raise ContextError(f"named context {source.name}={path} is not a directory")
                    root = self.opened(path)
                    trees[name] = SourceTree(root.fd, f"context {source.name}", ignore, keep_owners=False)
                    roots[name] = root
                    continue
                case _:
                    root = await self.image_root(source, planned.platform)
            trees[name] = SourceTree(root.fd, name, ignore, keep_owners=True)
            roots[name] = root
        return trees, roots

    def opened(self, path: str) -> Root:
        root = Root(path)
        self.roots.append(root)
        return root

    async def image_root(self, source: Source, platform: Platform) -> Root:
        """An image that files are copied from, unpacked once a build."""
        key = f"{source.kind} {source.name} {platform}"
        if key not in self.image_roots:
            self.image_roots[key] = asyncio.ensure_future(self.unpack_image(source, platform))
        return await asyncio.shield(self.image_roots[key])

    async def unpack_image(self, source: Source, platform: Platform) -> Root:
        base = await self.image(source, platform)
        layers = self.sources(base)
        root = self.opened(self.session.directory("image"))
        self.session.log(f"Unpacking image {source.name} to copy from it")
        await self.in_thread(lambda: extract_tree(self.session, layers, root, source.name))
        return root

    # --- outputs ----------------------------------------------------------------------------------------------------

    def upload_soon(self, layer: Layer) -> None:
        """Called by stages with each finished layer: when it belongs to the result, its upload begins."""
        options = self.session.options
        if options.no_push or not options.destinations:
            return
        self.loop.call_soon_threadsafe(self._start_upload, layer)

    def _start_upload(self, layer: Layer) -> None:
        seen: set[tuple[str, str]] = set()
        for destination in self.session.options.destinations:
            repository = (destination.registry, destination.repository)
            if repository not in seen:
                seen.add(repository)
                self.uploads.append(asyncio.ensure_future(self.registries().upload_blob(destination, layer.descriptor, partial(self.session.blobs.open, layer.descriptor.digest))))

    def lineage(self) -> set[int]:
        """The stages whose layers are the result's: the target and the chain of stages it is built FROM."""
        found: set[int] = set()
        current: PlannedStage | None = self.plan.stage(self.plan.target)
        while current is not None:
            found.add(current.index)
            current = self.plan.stage(current.base.stage) if current.base.kind == "stage" else None
        return found

    def finished_image(self) -> FinishedImage:
        stage = self.stages[self.plan.target]
        layers = stage.finish()
        base_layers = stage.base.image.layers if stage.base is not None else ()
        return FinishedImage(
            stage.config, (*base_layers, *(layer.descriptor for layer in layers)), stage.base, tuple(layers), stage.media_types
        )


async def run_build(options: BuildOptions, registry_options: RegistryOptions, emit: Emit, work_dir: str) -> BuildResult:
    """Build, and write every output that was asked for. Raises ``PybuildError``; on cancellation everything is ended first."""
    begin = time.monotonic()
    dockerfile = read_dockerfile(options)
    for warning in dockerfile.warnings:
        emit(Log("warning", f"{warning.rule}: {warning.message} ({warning.place})"))
    if not os.path.isdir(options.context):
        raise ContextError(f"the build context {options.context} is not a directory", hint="give one with --context")
    platform = options.platform or host_platform()
    plan = make_plan(
        dockerfile,
        target=options.target,
        build_args=options.build_args,
        named_contexts=options.named_contexts,
        build_platform=host_platform(),
        target_platform=platform,
    )
    if any(isinstance(i, Run) for stage in plan.stages for i in stage.instructions):
        # the process that starts commands: before memory grows and threads begin
        spawn.prepare()
    threads = options.threads or len(os.sched_getaffinity(0))
    with (
        ThreadPoolExecutor(max_workers=max(2, threads), thread_name_prefix="layer") as writers,
        ThreadPoolExecutor(max_workers=64, thread_name_prefix="stage") as executor,
    ):
        session = Session(
            options=options,
            emit=emit,
            work_dir=work_dir,
            blobs=BlobStore(os.path.join(work_dir, "blobs")),
            cancel=Cancel(),
            context_fd=os.open(options.context, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
            ignore=ignore_rules(options),
            now=time.time(),
            threads=threads,
            jobs=options.jobs or max(1, threads),
            writers=writers,
        )
        build = Build(session, dockerfile, plan, platform, registry_options, asyncio.get_running_loop(), executor)
        try:
            result = await unwrap(build_and_output(build))
        except BaseException:
            session.cancel.set()
            raise
        finally:
            await build.close()
            os.close(session.context_fd)
    emit(Span("build", "build", begin, time.monotonic()))
    return result


async def unwrap(work: Coroutine[Any, Any, BuildResult]) -> BuildResult:
    """The first real error of a group instead of the group."""
    try:
        return await work
    except BaseExceptionGroup as group:
        raise first_error(group) from None


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that made the others: one of ours that is no consequence of cancelling, else any."""
    flat: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        e = pending.pop(0)
        if isinstance(e, BaseExceptionGroup):
            pending += e.exceptions
        else:
            flat.append(e)
    ranked = sorted(flat, key=lambda e: 0 if isinstance(e, PybuildError) else (2 if is_cancellation(e) else 1))
    return ranked[0]


def is_cancellation(e: BaseException) -> bool:
    import errno

    return isinstance(e, asyncio.CancelledError) or (isinstance(e, OSError) and e.errno == errno.ECANCELED)


async def build_and_output(build: Build) -> BuildResult:
    """Everything after the plan."""
    from pybuild.build.outputs import check_push_permission, write_outputs

    session = build.session
    try:
        check = asyncio.ensure_future(check_push_permission(build))
        try:
            await build.add_triggers()
            await check
        except BaseException:
            check.cancel()
            await asyncio.gather(check, return_exceptions=True)
            raise
        session.layer_done = build.upload_soon
        await build.run_stages()
        image = await build.loop.run_in_executor(build.executor, build.finished_image)
        return await write_outputs(build, image)
    except OSError as e:
        if is_cancellation(e):
            raise asyncio.CancelledError from None
        raise StorageError(f"{e.strerror or e}{f': {e.filename}' if e.filename else ''}", hint=storage_hint(e)) from e


def storage_hint(e: OSError) -> str:
    import errno

    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the build's directory is full: give more ephemeral storage, or another place with KANIKO_DIR or TMPDIR"
    return ""
