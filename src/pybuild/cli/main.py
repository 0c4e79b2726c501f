"""The way in: finds the command, runs it, and turns errors into one message and an exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pybuild.cli.executor_flags import EXECUTOR_FLAGS
from pybuild.cli.help import help_text, usage
from pybuild.cli.pflag import FlagTable, HelpWanted, first_argument, parse
from pybuild.errors import ContextError, UsageError

PROGRAM = "pybuild"
ABOUT = (
    "Builds a container image from a Dockerfile and pushes it. Needs no daemon and no privileges; takes kaniko's flags."
)


@dataclass(frozen=True, slots=True)
class Command:
    """A sub-command: what ``--help`` says about it, and the function that runs it."""

    meaning: str
    run: Callable[[Sequence[str]], int]


def version(words: Sequence[str]) -> int:
    """``pybuild version``. The build command's flags are allowed, as the executor allows them."""
    parse(words, FlagTable(EXECUTOR_FLAGS))
    from pybuild.version import VERSION

    sys.stdout.write(f"pybuild version :  v{VERSION}\n")
    return 0


def show_help(words: Sequence[str]) -> int:
    raise HelpWanted


COMMANDS = {
    "version": Command("Print the version.", version),
    "help": Command("This text.", show_help),
}


def build(words: Sequence[str]) -> int:
    from pybuild.cli.build import run_build_command

    return run_build_command(words)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these words (default: ``sys.argv``). The exit status; never raises."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = dispatch(words)
        sys.stdout.flush()
        return leave(status)
    except UsageError as e:
        return complain(e.message, e.hint, with_usage=True)
    except ContextError as e:
        return complain(e.message, e.hint, with_usage=False)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # what is still buffered would be written, and fail again, when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141


def leave(status: int) -> int:
    """The status itself; after an interrupt, end at once when a thread is still waiting for a connection to be made, which
    nothing can break off. Everything that the build made is gone by then."""
    if status in (130, 143):
        import threading

        if any(t.is_alive() and not t.daemon and t is not threading.main_thread() for t in threading.enumerate()):
            sys.stderr.flush()
            os._exit(status)
    return status


def dispatch(words: list[str]) -> int:
    at = first_argument(words, FlagTable(EXECUTOR_FLAGS))
    run: Callable[[Sequence[str]], int] = build
    if at >= 0:
        name = words[at]
        if name not in COMMANDS:
            raise UsageError(
                f'unknown command "{name}" for "{PROGRAM}"', hint=command_hint(name, words[at - 1] if at else "")
            )
        run = COMMANDS[name].run
        words = words[:at] + words[at + 1 :]
    try:
        return run(words)
    except HelpWanted:
        sys.stdout.write(help_text(PROGRAM, ABOUT, EXECUTOR_FLAGS, meanings()))
        return 0


def meanings() -> dict[str, str]:
    return {name: command.meaning for name, command in COMMANDS.items()}


def command_hint(name: str, before: str) -> str:
    """For a value that stands apart from its boolean flag, and for misspelt commands."""
    if before.startswith("--") and name.lower() in ("true", "false", "0", "1", "t", "f"):
        return f"write {before}={name}: a boolean takes its value after ="
    from pybuild.dockerfile.suggest import did_you_mean

    return did_you_mean(name, COMMANDS)


def complain(message: str, hint: str, *, with_usage: bool) -> int:
    """What kaniko's command line says before anything has begun."""
    text = f"Error: {message}\n" + (f"hint: {hint}\n" if hint else "")
    if with_usage:
        text += "\n" + usage(PROGRAM, meanings())
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BrokenPipeError:
        pass
    return 1
