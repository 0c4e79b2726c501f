"""The event loop around a build: signals, the build's directory, and the clean end of both."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pybuild._native import spawn
from pybuild.build.orchestrate import run_build
from pybuild.errors import Interrupted, StorageError
from pybuild.rootfs.cleanup import work_directory

if TYPE_CHECKING:
    from pybuild.build.options import BuildOptions
    from pybuild.build.result import BuildResult
    from pybuild.events import Emit
    from pybuild.registry.options import RegistryOptions

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_to_end(options: BuildOptions, registry_options: RegistryOptions, emit: Emit) -> BuildResult:
    """Run a build on a fresh event loop in a fresh directory, which is removed at the end."""
    spawn.set_dumpable(False)
    try:
        with held_signals() as hold, work_directory(options.work_dir) as path:
            try:
                with asyncio.Runner(loop_factory=loop_factory()) as runner:
                    return runner.run(with_signals(options, registry_options, emit, path))
            finally:
                # the loop's handlers are gone, the directory is not yet: a signal now must not leave it behind
                hold()
    except OSError as e:
        raise StorageError(f"{e.strerror or e}{f': {e.filename}' if e.filename else ''}") from e


@contextlib.contextmanager
def held_signals() -> Iterator[Callable[[], None]]:
    """Gives a function from whose call on SIGINT and SIGTERM do nothing until the end of the block."""
    before = {}

    def hold() -> None:
        if threading.current_thread() is threading.main_thread():
            for signum in _SIGNALS:
                signal.signal(signum, lambda *_: None)

    if threading.current_thread() is threading.main_thread():
        before = {signum: signal.getsignal(signum) for signum in _SIGNALS}
    try:
        yield hold
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed; asyncio's own loop does the same, slower."""
    try:
        import uvloop
    except ImportError:
        return None
    loop: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return loop


async def with_signals(options: BuildOptions, registry_options: RegistryOptions, emit: Emit, path: str) -> BuildResult:
    """The first SIGINT or SIGTERM cancels the build, which ends in ``Interrupted``; more of them change nothing."""
    loop = asyncio.get_running_loop()
    received: list[int] = []
    build = asyncio.ensure_future(run_build(options, registry_options, emit, path))

    def interrupt(signum: int) -> None:
        if not received:
            received.append(signum)
            build.cancel()

    installed = []
    for signum in _SIGNALS:
        with contextlib.suppress(ValueError, RuntimeError):
            loop.add_signal_handler(signum, interrupt, signum)
            installed.append(signum)
    try:
        return await build
    except BaseException:
        if received:
            raise Interrupted(received[0]) from None
        raise
    finally:
        for signum in installed:
            loop.remove_signal_handler(signum)


