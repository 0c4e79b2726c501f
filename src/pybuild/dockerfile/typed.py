"""From an instruction's parts to its typed form: flags and arguments checked as BuildKit does, in its order."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pybuild.dockerfile.durations import parse_duration
from pybuild.dockerfile.flags import UNCHECKED, Flags, parse_flags
from pybuild.dockerfile.heredocs import Mark, chomp, try_mark
from pybuild.dockerfile.instructions import (
    Add,
    Arg,
    ArgPair,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    KeyValue,
    Label,
    Maintainer,
    Mount,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from pybuild.dockerfile.mounts import parse_mount
from pybuild.dockerfile.nodes import Node
from pybuild.dockerfile.spaces import SPACES
from pybuild.dockerfile.suggest import did_you_mean
from pybuild.dockerfile.text_error import TextError

Bodies = list[tuple[Mark, str]]
#: what every instruction has: place, text, end_line, comments
Common = dict[str, Any]

_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")
_ONBUILD = re.compile(r"\s*onbuild\s*", re.IGNORECASE)
_VARIABLE = re.compile(r"\$.")
_MINIMUM_NS = 1_000_000
NETWORKS = ("default", "none", "host")
SECURITIES = ("sandbox", "insecure")


def type_instruction(node: Node, bodies: Bodies, common: Common) -> Instruction:
    """The typed form of a node; ``TextError`` when it says something that cannot be."""
    make = _MAKERS.get(node.key)
    if make is None:
        hint = did_you_mean(node.name, NAMES) or "an instruction begins with a word like FROM, RUN or COPY"
        raise TextError(f"unknown instruction: {node.name}", node.name, hint=hint)
    return make(node, bodies, common)


def checked_flags(node: Node) -> Flags:
    return parse_flags(node.key, () if node.key in UNCHECKED else node.flags)


def at_least_one(node: Node) -> None:
    if not node.args:
        raise TextError(f"{node.key.upper()} requires at least one argument")


def exactly_one(node: Node) -> str:
    if len(node.args) != 1:
        raise TextError(f"{node.key.upper()} requires exactly one argument")
    return node.args[0]


def command(node: Node, args: tuple[str, ...]) -> Command:
    if node.json:
        return Command(args, False)
    return Command((" ".join(args),), True)


def make_from(node: Node, bodies: Bodies, common: Common) -> From:
    args = node.args
    name = ""
    if len(args) == 3 and args[1].lower() == "as":
        name = args[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise TextError(
                f"invalid name for build stage: {args[2]!r}, name can't start with a number or contain symbols",
                args[2],
                hint="a name is a letter, then letters, digits, - _ or .",
            )
    elif len(args) != 1:
        raise TextError(
            "FROM requires either one or three arguments",
            args[1] if len(args) > 1 else "",
            hint="write FROM IMAGE or FROM IMAGE AS NAME",
        )
    flags = checked_flags(node)
    return From(**common, image=args[0], name=name, platform=flags.text("platform"))


def pairs(node: Node) -> tuple[KeyValue, ...]:
    at_least_one(node)
    found = []
    for key, value in zip(node.args[::2], node.args[1::2], strict=True):
        if not key:
            raise TextError(f"{node.key.upper()} names can not be blank", "=")
        found.append(KeyValue(key, value))
    return tuple(found)


def make_env(node: Node, bodies: Bodies, common: Common) -> Env:
    checked_flags(node)
    return Env(**common, pairs=pairs(node), legacy=node.legacy)


def make_label(node: Node, bodies: Bodies, common: Common) -> Label:
    checked_flags(node)
    return Label(**common, pairs=pairs(node), legacy=node.legacy)


def make_arg(node: Node, bodies: Bodies, common: Common) -> Arg:
    at_least_one(node)
    found = []
    for word in node.args:
        key, equals, value = word.partition("=")
        if not key:
            raise TextError("ARG names can not be blank", word)
        found.append(ArgPair(key, value if equals else None))
    return Arg(**common, pairs=tuple(found))


def here_document(mark: Mark, body: str) -> Heredoc:
    return Heredoc(mark.name, chomp(body) if mark.chomp else body, mark.expand, mark.chomp, mark.fd, body)


def files(node: Node, bodies: Bodies) -> tuple[tuple[str, ...], tuple[Heredoc, ...], str]:
    """Sources, here-documents among them, and destination of COPY or ADD."""
    name = node.key.upper()
    if len(node.args) < 2:
        raise TextError(
            f"{name} requires at least two arguments, but only {'one was' if node.args else 'none were'} provided. "
            "Destination could not be determined"
        )
    destination = node.args[-1]
    if try_mark(destination) is not None:
        raise TextError(f"{name} cannot accept a heredoc as a destination", destination)
    contents = {mark.name: body for mark, body in bodies}
    sources: list[str] = []
    heredocs: list[Heredoc] = []
    for word in node.args[:-1]:
        mark = try_mark(word)
        if mark is None:
            sources.append(word)
            continue
        body = contents.get(mark.name, "")
        heredocs.append(here_document(mark, body))
    return tuple(sources), tuple(heredocs), destination


def make_copy(node: Node, bodies: Bodies, common: Common) -> Copy:
    sources, heredocs, destination = files(node, bodies)
    flags = checked_flags(node)
    from_ = flags.text("from")
    if _VARIABLE.search(from_):
        raise TextError(
            "variable expansion is not supported for --from",
            from_,
            hint="define a stage with FROM and an ARG from before the first FROM, and use the stage's name",
        )
    return Copy(
        **common,
        sources=sources,
        destination=destination,
        heredocs=heredocs,
        from_=from_,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.true("link"),
        parents=flags.true("parents"),
        excludes=flags.all("exclude"),
    )


def make_add(node: Node, bodies: Bodies, common: Common) -> Add:
    sources, heredocs, destination = files(node, bodies)
    flags = checked_flags(node)
    return Add(
        **common,
        sources=sources,
        destination=destination,
        heredocs=heredocs,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.true("link"),
        excludes=flags.all("exclude"),
        checksum=flags.text("checksum"),
        keep_git_dir=flags.true("keep-git-dir"),
        unpack=flags.choice("unpack"),
    )


def one_of(value: str, options: tuple[str, ...], what: str) -> str:
    if value not in options:
        hint = did_you_mean(value, options) or f"it is one of {', '.join(options)}"
        raise TextError(f"{what} {value!r} is not supported", value, hint=hint)
    return value


def make_run(node: Node, bodies: Bodies, common: Common) -> Run:
    flags = checked_flags(node)
    mounts: list[Mount] = []
    for text in flags.all("mount"):
        try:
            mounts.append(parse_mount(text))
        except TextError as e:
            raise TextError(e.message, "--mount", hint=e.hint) from None
    return Run(
        **common,
        command=command(node, node.args),
        heredocs=tuple(here_document(mark, body) for mark, body in bodies),
        mounts=tuple(mounts),
        network=one_of(flags.text("network", "default"), NETWORKS, "network mode"),
        security=one_of(flags.text("security", "sandbox"), SECURITIES, "security mode"),
        devices=flags.all("device"),
    )


def make_cmd(node: Node, bodies: Bodies, common: Common) -> Cmd:
    checked_flags(node)
    return Cmd(**common, command=command(node, node.args))


def make_entrypoint(node: Node, bodies: Bodies, common: Common) -> Entrypoint:
    checked_flags(node)
    return Entrypoint(**common, command=command(node, node.args))


def make_shell(node: Node, bodies: Bodies, common: Common) -> Shell:
    checked_flags(node)
    at_least_one(node)
    if not node.json:
        raise TextError(
            "SHELL requires the arguments to be in JSON form", node.rest, hint='write SHELL ["/bin/sh", "-c"]'
        )
    return Shell(**common, argv=node.args)


def make_expose(node: Node, bodies: Bodies, common: Common) -> Expose:
    at_least_one(node)
    checked_flags(node)
    return Expose(**common, ports=tuple(sorted(node.args)))


def make_volume(node: Node, bodies: Bodies, common: Common) -> Volume:
    at_least_one(node)
    checked_flags(node)
    paths = tuple(path.strip(SPACES) for path in node.args)
    if not all(paths):
        raise TextError("VOLUME specified can not be an empty string", '""')
    return Volume(**common, paths=paths)


def make_user(node: Node, bodies: Bodies, common: Common) -> User:
    user = exactly_one(node)
    checked_flags(node)
    return User(**common, user=user)


def make_workdir(node: Node, bodies: Bodies, common: Common) -> Workdir:
    path = exactly_one(node)
    checked_flags(node)
    return Workdir(**common, path=path)


def make_stopsignal(node: Node, bodies: Bodies, common: Common) -> Stopsignal:
    return Stopsignal(**common, signal=exactly_one(node))


def make_maintainer(node: Node, bodies: Bodies, common: Common) -> Maintainer:
    name = exactly_one(node)
    checked_flags(node)
    return Maintainer(**common, name=name)


def make_healthcheck(node: Node, bodies: Bodies, common: Common) -> Healthcheck:
    at_least_one(node)
    kind, args = node.args[0].upper(), node.args[1:]
    if kind == "NONE":
        if args:
            raise TextError("HEALTHCHECK NONE takes no arguments", args[0])
        return Healthcheck(**common, test=("NONE",))
    flags = checked_flags(node)
    if kind != "CMD":
        raise TextError(
            f'Unknown type "{kind}" in HEALTHCHECK (try CMD)',
            node.args[0],
            hint="write HEALTHCHECK CMD or HEALTHCHECK NONE",
        )
    if not args:
        raise TextError("Missing command after HEALTHCHECK CMD")
    test = ("CMD", *args) if node.json else ("CMD-SHELL", " ".join(args))
    return Healthcheck(
        **common,
        test=test,
        interval=interval(flags, "interval"),
        timeout=interval(flags, "timeout"),
        start_period=interval(flags, "start-period"),
        start_interval=interval(flags, "start-interval"),
        retries=retries(flags.text("retries")),
    )


def interval(flags: Flags, name: str) -> int:
    text = flags.text(name)
    if not text:
        return 0
    try:
        value = parse_duration(text)
    except TextError as e:
        raise TextError(e.message, text, hint=e.hint) from None
    if value and value < _MINIMUM_NS:
        raise TextError(f'Interval "{name}" cannot be less than 1ms', text)
    return value


def retries(text: str) -> int:
    if not text:
        return 0
    if not re.fullmatch(r"[-+]?[0-9]{1,18}", text, re.ASCII) or abs(int(text)) >= 1 << 31:
        raise TextError(f"invalid value for --retries: {text}", text, hint="it takes a number")
    if int(text) < 0:
        raise TextError(f"--retries cannot be negative ({text})", text)
    return int(text)


def make_onbuild(node: Node, bodies: Bodies, common: Common) -> Onbuild:
    at_least_one(node)
    checked_flags(node)
    trigger = node.args[0].upper()
    if trigger == "ONBUILD":
        raise TextError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", node.args[0])
    if trigger in ("MAINTAINER", "FROM"):
        raise TextError(f"{trigger} isn't allowed as an ONBUILD trigger", node.args[0])
    text = _ONBUILD.sub("", common["text"], count=1)
    for mark, body in bodies:
        text += f"\n{body}{mark.name}"
    return Onbuild(**common, trigger=text)


_MAKERS: dict[str, Callable[[Node, Bodies, Common], Instruction]] = {
    "add": make_add,
    "arg": make_arg,
    "cmd": make_cmd,
    "copy": make_copy,
    "entrypoint": make_entrypoint,
    "env": make_env,
    "expose": make_expose,
    "from": make_from,
    "healthcheck": make_healthcheck,
    "label": make_label,
    "maintainer": make_maintainer,
    "onbuild": make_onbuild,
    "run": make_run,
    "shell": make_shell,
    "stopsignal": make_stopsignal,
    "user": make_user,
    "volume": make_volume,
    "workdir": make_workdir,
}
NAMES = tuple(name.upper() for name in _MAKERS)
