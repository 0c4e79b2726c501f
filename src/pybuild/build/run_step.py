"""RUN: from an expanded instruction to a command in the stage's root, and from what it changed to a layer."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pybuild.build import history
from pybuild.build.effects import shell_of
from pybuild.build.mounts import resolve_mounts
from pybuild.build.session import Session
from pybuild.build.tree import Root, names
from pybuild.dockerfile.heredocs import try_mark
from pybuild.dockerfile.instructions import Heredoc, Run
from pybuild.errors import DockerfileError, IsolationError, RunError
from pybuild.events import Span, StepOutput
from pybuild.rootfs.run import RunMount, RunSpec, ignored_paths, run
from pybuild.rootfs.users import resolve_user

if TYPE_CHECKING:
    from pybuild._native.entries import EntryList
    from pybuild._native.index import Index
    from pybuild.build.stage import Stage

SCRIPT_DIRECTORY = "/dev/pipes/"


def command_of(shell: Sequence[str], instruction: Run) -> tuple[tuple[str, ...], RunMount | None]:
    """The argument list of a RUN, and the script file that it needs when its only here-document begins with ``#!``.

    Source: BuildKit. A lone here-document is the shell's script; any other is handed to the shell with its bodies.
    """
    command = instruction.command
    if not command.shell:
        return tuple(command.argv), None
    text = command.argv[0] if command.argv else ""
    script: RunMount | None = None
    if instruction.heredocs:
        first = instruction.heredocs[0]
        if len(instruction.heredocs) == 1 and try_mark(text) is not None:
            text = first.content
            if text.startswith("#!"):
                target = SCRIPT_DIRECTORY + first.name
                script = RunMount(
                    kind="file", target=target, data=first.content.encode("utf-8", "surrogateescape"), mode=0o755, readonly=True
                )
                text = target
        else:
            text = "\n".join([text, *(rejoin(h) for h in instruction.heredocs)])
    return (*shell, text), script


def rejoin(heredoc: Heredoc) -> str:
    """A here-document's body as written, and its end mark, as the shell has to read them."""
    return f"{heredoc.raw or heredoc.content}{heredoc.name}"


def run_step(stage: Stage, instruction: Run, step: int) -> None:
    """Run the command, then make a layer of what it changed. ``RunError`` with the command's status when it fails."""
    session = stage.session
    if instruction.security == "insecure":
        raise IsolationError(
            "RUN --security=insecure is refused: a build step never gets more privileges than the build",
            place=instruction.place,
            hint="drop the flag, or run that step in a pod that has the privileges",
        )
    if instruction.devices:
        raise IsolationError("RUN --device is refused: devices of the host are not handed to build steps", place=instruction.place)
    tree = stage.tree(instruction.text)
    if tree.root is None:
        raise RuntimeError("a stage with RUN has a root on disk")
    section = stage.section
    user = resolve_user(section.get("User") or "", tree.read("etc/passwd"), tree.read("etc/group"))
    argv, script = command_of(shell_of(section), instruction)
    if not argv:
        raise DockerfileError("RUN needs a command", place=instruction.place)
    workdir = section.get("WorkingDir") or "/"
    env = stage.scope.run_environment()
    env.setdefault("HOME", user.home)
    with resolve_mounts(stage, instruction.mounts, workdir, instruction.place) as mounts:
        env.update(mounts.env)
        spec = RunSpec(
            root=tree.root.path,
            argv=argv,
            env=env,
            cwd=workdir,
            user=user,
            mounts=(*mounts.mounts, *((script,) if script is not None else ())),
            network="none" if instruction.network == "none" else "host",
        )
        session.log(f"Running: [{' '.join(argv)}]")
        tree.index.settle()
        begin = time.monotonic()
        result = run(
            spec,
            session.isolated(),
            output=lambda stream, data: session.emit(StepOutput(step, stream, data)),
            cancel=session.cancel,
        )
        session.emit(Span("run", instruction.text.split("\n", 1)[0][:80], begin, time.monotonic()))
    session.check_cancelled()
    if result.signal is not None:
        name = signal.Signals(result.signal).name if result.signal in signal.valid_signals() else str(result.signal)
        raise RunError(
            failure_text(argv, f"signal: {name}", result.tail),
            exit_code=128 + result.signal,
            place=instruction.place,
            hint="SIGKILL often means that memory ran out: look at the pod's limit" if result.signal == signal.SIGKILL else "",
        )
    if result.exit_code:
        raise RunError(
            failure_text(argv, f"exit status {result.exit_code}", result.tail), exit_code=result.exit_code, place=instruction.place
        )
    text = history.created_by(instruction, argv, stage.scope.declared)
    if session.options.single_snapshot:
        stage.record(text, layer=False)
        return
    session.log("Taking snapshot of full filesystem...")
    begin = time.monotonic()
    entries = scan(session, tree.index, tree.root, ignored_paths(spec))
    session.emit(Span("snapshot", instruction.text.split("\n", 1)[0][:80], begin, time.monotonic(), len(entries)))
    if not len(entries):
        session.log("No files were changed, appending empty layer to config. No layer added to image.")
    stage.record(text, layer=stage.add_layer(entries, instruction.text, settled=False))


def scan(session: Session, index: Index, root: Root, ignored: Sequence[str]) -> EntryList:
    """What changed below a root since the index was made, as the entries of a layer; the index is up to date afterwards."""
    ignore = [*names(ignored), *names(session.options.ignore_paths)]
    return index.scan(root.fd, mode=session.options.snapshot_mode, ignore=ignore, threads=session.threads, cancel=session.cancel)


def failure_text(argv: Sequence[str], how: str, tail: bytes) -> str:
    """kaniko's words for a failed RUN, and the last lines that the command wrote."""
    shown = " ".join(argv)
    if len(shown) > 200:
        shown = shown[:197] + "..."
    text = f"failed to execute command: {shown}: waiting for process to exit: {how}"
    lines = tail.decode("utf-8", "replace").rstrip().splitlines()[-10:]
    if lines:
        text += "\nlast output:\n" + "\n".join(f"  {line}" for line in lines)
    return text
