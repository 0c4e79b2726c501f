"""One stage, instruction by instruction: its tree, its config, its history and its layers. Runs in a worker thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pybuild.build import history
from pybuild.build.bases import Base, LayerSource
from pybuild.build.effects import (
    apply_metadata,
    clear_inherited_cmd,
    command_line,
    environment,
    join_workdir,
    set_environment,
)
from pybuild.build.media import LayerMediaTypes
from pybuild.build.plan import PlannedStage
from pybuild.build.scope import DEFAULT_PATH, StageScope
from pybuild.build.session import Session
from pybuild.build.tree import KEPT_FILES, Root, Tree
from pybuild.dockerfile.checks import undefined_variables
from pybuild.dockerfile.expand import expand_instruction
from pybuild.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Instruction,
    Maintainer,
    Run,
    User,
    Workdir,
)
from pybuild.errors import ArchiveError, DigestError, DockerfileError, PybuildError
from pybuild.events import Span, StepFinished, StepStarted
from pybuild.layer.types import Layer
from pybuild.oci.config import ImageConfig
from pybuild.oci.descriptor import Descriptor

if TYPE_CHECKING:
    from pybuild._native.entries import EntryList
    from pybuild.build.copy import SourceTree


@dataclass(slots=True)
class BuiltLayer:
    """A layer that the build made: ready, or still being written."""

    pending: Future[Layer]

    def result(self) -> Layer:
        return self.pending.result()


@dataclass(slots=True)
class Stage:
    """A stage in the making, and what remains of it for those that come after."""

    session: Session
    planned: PlannedStage
    base: Base | None
    base_layers: Callable[[], Sequence[LayerSource]]
    config: ImageConfig
    scope: StageScope
    media_types: LayerMediaTypes
    on_disk: bool
    #: trees of the stages and images that instructions copy from, by the text of ``--from``
    source_tree: Callable[[str], SourceTree]
    #: roots of the same, for mounts
    source_root: Callable[[str], Root]
    #: a finished parent whose tree nobody else needs
    inherited: Tree | None = None
    #: the stage's layers become the result's: their upload starts as soon as each is finished
    upload: bool = False
    built: list[BuiltLayer] = field(default_factory=list)
    new_history: list[dict[str, Any]] = field(default_factory=list)
    #: ARGs that were declared, also those without a value
    named_args: set[str] = field(default_factory=set)
    _tree: Tree | None = None
    _before: Any = None
    _collected: EntryList | None = None

    @property
    def section(self) -> dict[str, Any]:
        """The ``config`` section of the image's config."""
        return self.config.section

    # --- the tree ---------------------------------------------------------------------------------------------------

    def tree(self, reason: str = "") -> Tree:
        """The stage's files so far; made from the base's layers when it is first asked for."""
        if self._tree is None:
            if self.inherited is not None and (self.inherited.root is not None or not self.on_disk):
                self._tree = self.inherited
            else:
                self._tree = self._extract(reason)
            if self.session.options.single_snapshot and self._tree.root is not None:
                self._before = self._tree.index.copy()
        return self._tree

    def layer_sources(self) -> list[LayerSource]:
        """All layers so far as readable streams: the base's, then the build's own."""
        found = list(self.base_layers())
        for built in self.built:
            layer = built.result()
            digest = layer.descriptor.digest
            found.append(LayerSource(layer.descriptor, layer.diff_id, partial(self.session.blobs.open, digest)))
        return found

    def _extract(self, reason: str) -> Tree:
        session = self.session
        sources = self.layer_sources()
        root = Root(session.directory(f"root-{self.planned.index}")) if self.on_disk else None
        if sources and root is not None:
            session.log(f"Unpacking rootfs as cmd {reason or self.planned.title} requires it.")
        elif not sources:
            session.log("No base image, nothing to extract")
        return extract_tree(session, sources, root, self.planned.title)

    @property
    def root(self) -> Root | None:
        """The root on disk, when there is one."""
        return self._tree.root if self._tree is not None else None

    @property
    def has_tree(self) -> bool:
        return self._tree is not None

    def release_tree(self) -> Tree | None:
        """Hand the tree over to the one stage that begins from this one."""
        return self._tree

    def inherit(self, parent: Stage) -> None:
        """Begin with the layers and the history of the stage this one is FROM."""
        self.built = list(parent.built)
        self.new_history = list(parent.new_history)
        self.named_args = set(parent.named_args)

    # --- layers -----------------------------------------------------------------------------------------------------

    def add_layer(self, entries: EntryList, title: str, *, settled: bool) -> bool:
        """Make a layer of collected entries; ``settled`` when what they refer to does not change any more, so that the layer
        can be written while the build goes on. False, and no layer, when there are none."""
        if not len(entries):
            return False
        tree = self.tree()
        entries.sort()
        tree.index.add_parents(entries)
        if settled:
            self.built.append(BuiltLayer(self.session.write_later(entries, self.media_types, title, upload=self.upload)))
        else:
            done: Future[Layer] = Future()
            done.set_result(self.session.write_layer(entries, self.media_types, title, upload=self.upload))
            self.built.append(BuiltLayer(done))
        return True

    def commit(self, entries: EntryList, instruction: Instruction, text: str) -> None:
        """Bring entries of an instruction into the tree and make its layer (later, with ``--single-snapshot``)."""
        tree = self.tree(instruction.text)
        entries.sort()
        tree.apply(entries, self.session.cancel)
        if self.session.options.single_snapshot:
            if tree.root is None:
                if self._collected is None:
                    from pybuild._native.entries import EntryList

                    self._collected = EntryList()
                self._collected.extend(entries)
            self.record(text, layer=False)
            return
        if len(entries):
            self.session.log("Taking snapshot of files...")
        self.record(text, layer=self.add_layer(entries, instruction.text, settled=True))

    def record(self, text: str, *, layer: bool) -> None:
        created = history.timestamp(self.session.created)
        self.new_history.append(history.entry(text, created, empty=not layer))

    # --- instructions -----------------------------------------------------------------------------------------------

    def execute(self) -> None:
        """Carry out every instruction and leave config, history and layers complete."""
        instructions = self.planned.instructions
        self.session.log(f"Building stage '{self.planned.stage.from_.image}' [idx: '{self.planned.index}']")
        for number, instruction in enumerate(instructions, 1):
            self.session.check_cancelled()
            step = self.session.next_step()
            begin = time.monotonic()
            self.session.emit(StepStarted(step, self.planned.title, number, len(instructions), instruction.text))
            try:
                self.execute_one(instruction, step)
            except PybuildError as e:
                if e.place is None:
                    e.place = instruction.place
                self.session.emit(StepFinished(step, "failed", time.monotonic() - begin))
                raise
            except BaseException:
                self.session.emit(StepFinished(step, "failed", time.monotonic() - begin))
                raise
            end = time.monotonic()
            self.session.emit(StepFinished(step, "done", end - begin))
            self.session.emit(Span("step", instruction.text.split("\n", 1)[0][:80], begin, end))
        clear_inherited_cmd(
            self.section,
            sets_entrypoint=any(isinstance(i, Entrypoint) for i in instructions),
            sets_cmd=any(isinstance(i, Cmd) for i in instructions),
        )
        if self.on_disk:
            self.tree()
        self.take_single_snapshot()

    def take_single_snapshot(self) -> None:
        """With ``--single-snapshot``: the one layer of the stage."""
        if not self.session.options.single_snapshot or self._tree is None:
            return
        entries = self._collected
        if self._tree.root is not None:
            from pybuild.build.run_step import scan

            self.session.log("Taking snapshot of full filesystem...")
            entries = scan(self.session, self._before, self._tree.root, ())
        if entries is not None and self.add_layer(entries, "single snapshot", settled=False) and self.new_history:
            self.new_history[-1].pop("empty_layer", None)

    def execute_one(self, raw: Instruction, step: int) -> None:
        """One instruction: expand it, then do what it says."""
        if self.planned.base.kind != "scratch":
            for warning in undefined_variables(raw, self.scope.env, self.named_args, escape=self.scope.scope.escape):
                self.session.warn(f"{warning.rule}: {warning.message} ({warning.place})")
        instruction = expand_instruction(raw, self.scope.env, escape=self.scope.scope.escape)
        self.session.log(raw.text)
        match instruction:
            case Arg():
                self.scope.declare(instruction)
                self.named_args.update(p.key for p in instruction.pairs)
                self.record(raw.text, layer=False)
            case Run():
                from pybuild.build.run_step import run_step

                run_step(self, instruction, step)
            case Copy() | Add():
                from pybuild.build.add import copy_step

                copy_step(self, instruction, raw)
            case Workdir():
                self.change_workdir(instruction, raw)
            case Maintainer():
                self.config.document["author"] = instruction.name
                self.record(raw.text, layer=False)
            case _:
                self.metadata(instruction, raw)

    def metadata(self, instruction: Instruction, raw: Instruction) -> None:
        if not apply_metadata(self.section, instruction):
            raise DockerfileError(f"{type(instruction).__name__.upper()} cannot be carried out here", place=raw.place)
        argv: list[str] | None = None
        if isinstance(instruction, Env):
            self.scope.env.update({p.key: p.value for p in instruction.pairs})
        elif isinstance(instruction, Cmd | Entrypoint):
            argv = command_line(self.section, instruction.command)
        elif isinstance(instruction, User):
            self.session.debug("Cmd: USER")
        self.record(history.created_by(raw, argv, {}), layer=False)

    def change_workdir(self, instruction: Workdir, raw: Instruction) -> None:
        path = join_workdir(self.section.get("WorkingDir", ""), instruction.path)
        self.section["WorkingDir"] = path
        self.session.log(f"Changed working directory to {path}")
        if path == "/":
            self.record(raw.text, layer=False)
            return
        from pybuild._native.entries import EntryList
        from pybuild.build.copy import Destination, Placement

        tree = self.tree(raw.text)
        entries = EntryList()
        owner = self.user_ids()
        destination = Destination(tree.index, entries, raw.place)
        target = tree.index.resolve(path)
        if destination.make_dirs(target, Placement(owner, None, self.session.now_ns)):
            self.session.log(f"Creating directory {path}")
        self.commit(entries, raw, raw.text)

    def user_ids(self) -> tuple[int, int] | None:
        """The owner of what WORKDIR makes: the USER of the moment, ``None`` for root."""
        text = self.section.get("User") or ""
        if text in ("", "0", "root", "0:0", "root:root"):
            return None
        from pybuild.rootfs.users import resolve_user

        tree = self.tree()
        user = resolve_user(text, tree.read("etc/passwd"), tree.read("etc/group"))
        return user.uid, user.gid

    # --- the result -------------------------------------------------------------------------------------------------

    def finish(self) -> list[Layer]:
        """Wait for the layers and write them and the history into the config. Call once, at the end."""
        layers = [built.result() for built in self.built]
        for layer in layers:
            self.config.append_diff_id(layer.diff_id)
        for item in self.new_history:
            self.config.append_history(item)
        return layers


def extract_tree(session: Session, sources: Sequence[LayerSource], root: Root | None, title: str) -> Tree:
    """The tree that layers make, on disk below ``root`` or, without one, in an index alone. Blocking."""
    from pybuild._native.index import Index
    from pybuild._native.untar import Extractor
    from pybuild.rootfs.extract import extract_layer

    tree = Tree(Index(), root, owners=session.owners)
    for source in sources:
        begin = time.monotonic()
        extractor = Extractor(
            tree.index,
            root.fd if root is not None else -1,
            owners=session.owners,
            devices=session.owners,
            keep=() if root is not None else KEPT_FILES,
        )
        reader = source.open()
        try:
            extract_layer(reader, source.descriptor.media_type, source.diff_id, extractor, cancel=session.cancel)
        except (ArchiveError, DigestError) as e:
            if source.descriptor.digest not in e.message:
                e.message = f"layer {source.descriptor.digest}: {e.message}"
            raise
        finally:
            reader.close()
        for path in KEPT_FILES:
            found = tree.index.lookup(path)
            if path in extractor.kept:
                tree.kept[path] = extractor.kept[path]
            elif found is None or found.type != "file":
                tree.kept.pop(path, None)
        what = "extract" if root is not None else "index"
        session.emit(Span(what, source.descriptor.digest[7:19], begin, time.monotonic(), extractor.bytes, {"stage": title}))
    return tree


def prepare_config(config: ImageConfig) -> None:
    """Make a base's config the one that a stage starts with: without its ONBUILD triggers, with a PATH."""
    section = config.section
    section.pop("OnBuild", None)
    env = environment(section)
    if "PATH" not in env:
        set_environment(section, {"PATH": DEFAULT_PATH, **env})


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """A stage as an image: its config, all its layers in order, the base they began with and the media types of what is new."""

    config: ImageConfig
    layers: tuple[Descriptor, ...]
    base: Base | None
    built: tuple[Layer, ...]
    media_types: LayerMediaTypes
