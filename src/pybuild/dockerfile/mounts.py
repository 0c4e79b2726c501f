"""RUN's ``--mount``: its fields, their defaults and what is refused.

``parse_mount`` reads a flag's value without looking into its words (they may hold variables), ``expand_mount`` reads it with the
variables of the moment and checks it. Sources: the Dockerfile reference's tables of mount types, BuildKit for what they leave open.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pybuild.dockerfile.instructions import Mount
from pybuild.dockerfile.suggest import did_you_mean
from pybuild.dockerfile.text_error import TextError
from pybuild.dockerfile.words import expand

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")
_ALIASES = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
_KEYS = (
    "type", "from", "source", "target", "readonly", "readwrite", "required", "size", "id", "sharing", "mode", "uid", "gid", "env",
    "src", "dst", "destination", "ro", "rw",
)  # fmt: skip
_TEXTS = ("source", "target", "id", "env")
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?([kmgtp]?)(i?b)?", re.IGNORECASE)
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def split_fields(text: str) -> list[str]:
    """Comma-separated fields; a field in double quotes may hold commas, ``""`` in it is a quote."""
    fields: list[str] = []
    at = 0
    while True:
        if text.startswith('"', at):
            field: list[str] = []
            at += 1
            while True:
                close = text.find('"', at)
                if close < 0:
                    raise TextError("invalid mount: a field's \" is not closed")
                field.append(text[at:close])
                at = close + 1
                if not text.startswith('"', at):
                    break
                field.append('"')
                at += 1
            if at < len(text) and text[at] != ",":
                raise TextError("invalid mount: text after a field's closing \"")
            fields.append("".join(field))
        else:
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            part = text[at:end]
            if '"' in part:
                raise TextError(
                    'invalid mount: a " within a field that does not begin with one', hint="quote the whole field"
                )
            fields.append(part)
            at = end
        if at >= len(text):
            return fields
        at += 1


def parse_mount(text: str) -> Mount:
    """A flag's value with its words as written; ``TextError`` when it cannot be split into fields, or ``from`` holds a variable."""
    found: dict[str, Any] = {}
    for field in split_fields(text):
        key, equals, value = field.partition("=")
        key = _ALIASES.get(key.lower(), key.lower())
        if key == "from":
            if re.search(r"\$.", value):
                raise TextError(
                    "'from' doesn't support variable expansion",
                    hint="define a stage with FROM and that variable, and use the stage's name",
                )
            found["from_"] = value
        elif key in ("type", "sharing"):
            found[key] = value.lower()
        elif key in (*_TEXTS, "size", "mode", "uid", "gid"):
            found[key] = value
        elif key in ("readonly", "readwrite") and (not equals or value in _TRUE or value in _FALSE):
            found["readonly"] = (not equals or value in _TRUE) == (key == "readonly")
        elif key == "required":
            found["required"] = not equals or value in _TRUE
    return Mount(**{"type": "bind", **found}, raw=text)


def expand_mount(mount: Mount, env: Mapping[str, str], *, escape: str = "\\", workdir: str | None = None) -> Mount:
    """The mount with its variables expanded, checked, with the defaults of its type.

    ``readonly`` is set; a secret's and ssh's ``id`` and ``target`` are; with ``workdir`` a relative target is made absolute.
    ``TextError`` for unknown keys, values of the wrong kind and combinations that mean nothing.
    """
    read_only: bool | None = None
    found: dict[str, Any] = {"type": "bind"}
    for field in split_fields(mount.raw):
        key, equals, value = field.partition("=")
        key = key.lower()
        name = _ALIASES.get(key, key)
        if not equals:
            if name not in ("readonly", "readwrite", "required"):
                hint = did_you_mean(key, ("readonly", "readwrite", "required", "ro", "rw")) or f"write {key}=VALUE"
                raise TextError(f"invalid field '{field}' must be a key=value pair", hint=hint)
            flag = True
        else:
            if name != "from":
                value = expand(value, env, escape=escape)
            if name in ("readonly", "readwrite", "required"):
                flag = boolean(key, value)
        if name in ("readonly", "readwrite"):
            read_only = flag == (name == "readonly")
        elif name == "required":
            if found["type"] not in ("secret", "ssh"):
                raise unexpected(key, found["type"])
            found["required"] = flag
        else:
            found.update(read_field(name, key, value, field, found["type"]))
    checked = Mount(**found, readonly=read_only, raw=mount.raw)
    return with_defaults(checked, workdir)


def check_mount(mount: Mount) -> None:
    """``TextError`` for a mount that is wrong whatever its variables are. For a look ahead: BuildKit takes bad mounts in stages that
    it does not build, so this is for the stages that are wanted, before the first of them runs."""
    if "$" not in mount.raw:
        expand_mount(mount, {})


def read_field(name: str, key: str, value: str, field: str, kind: str) -> dict[str, Any]:
    """One ``key=value``, as a field of ``Mount``."""
    match name:
        case "type":
            if value.lower() not in TYPES:
                hint = did_you_mean(value, TYPES) or f"the types are {', '.join(TYPES)}"
                raise TextError(f'unsupported mount type "{value}"', hint=hint)
            return {"type": value.lower()}
        case "from":
            return {"from_": value}
        case "source" | "target" | "id":
            return {name: value}
        case "env":
            if kind != "secret":
                raise unexpected(key, kind)
            return {name: value}
        case "size":
            if kind != "tmpfs":
                raise unexpected(key, kind)
            parse_size(value)
            return {name: value}
        case "sharing":
            if value.lower() not in SHARING:
                hint = did_you_mean(value, SHARING) or f"it is one of {', '.join(SHARING)}"
                raise TextError(f'unsupported sharing value "{value}"', hint=hint)
            return {name: value.lower()}
        case "mode":
            if not re.fullmatch("[0-7]{1,11}", value) or int(value, 8) >= 1 << 32:
                raise TextError(f"invalid value {value} for mode", hint="a mode is octal, like 0755")
            return {name: value}
        case "uid" | "gid":
            if not re.fullmatch("[0-9]{1,20}", value, re.ASCII) or int(value) >= 1 << 32:
                raise TextError(f"invalid value {value} for {name}", hint="it takes a number")
            return {name: value}
    hint = did_you_mean(key, _KEYS) or f"the keys are {', '.join(k for k in _KEYS if k not in _ALIASES)}"
    raise TextError(f"unexpected key '{key}' in '{field}'", hint=hint)


def boolean(key: str, value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise TextError(f"invalid value for {key}: {value}", hint="it takes true or false")


def unexpected(key: str, kind: str) -> TextError:
    return TextError(
        f"unexpected key '{key}' for mount type '{kind}'", hint="type= has to come first" if kind == "bind" else ""
    )


def with_defaults(mount: Mount, workdir: str | None) -> Mount:
    """Check that a mount's fields fit together and fill in what was not given."""
    kind = mount.type
    if kind not in ("cache", "secret", "ssh"):
        for name in ("mode", "uid", "gid"):
            if getattr(mount, name) is not None:
                raise TextError(f'{name} not allowed for "{kind}" type mounts')
    if mount.sharing and kind != "cache":
        raise TextError(f"invalid cache sharing set for {kind} mount")
    if mount.from_ and kind in ("secret", "ssh", "tmpfs"):
        raise TextError(f"{kind} mount should not have a from")
    if mount.readonly is None:
        mount = replace(mount, readonly=kind not in ("cache", "tmpfs"))
    if kind == "secret":
        return secret_defaults(mount, workdir)
    if kind == "ssh":
        return replace(mount, id=mount.id or mount.source or "default", target=absolute(mount.target, workdir))
    if not mount.target:
        raise TextError(f"{kind} mount needs a target", hint="add target=PATH")
    target = absolute(mount.target, workdir)
    if posixpath.normpath(mount.target) in ("/", "//") or (workdir is not None and target == "/"):
        raise TextError(f"invalid mount target {mount.target!r}: the root cannot be mounted over")
    if kind == "cache":
        cleaned = target if target is not None else mount.target
        identity = mount.id or posixpath.normpath(cleaned)
        return replace(mount, target=target, id=identity, sharing=mount.sharing or "shared")
    return replace(mount, target=target)


def secret_defaults(mount: Mount, workdir: str | None) -> Mount:
    if not mount.source and not mount.target and not mount.id:
        raise TextError("invalid secret mount. one of source, target required", hint="add id=NAME")
    if mount.source and mount.id:
        raise TextError("both source and id can't be set", hint="source is another name for id: give one of them")
    identity = mount.id or mount.source or posixpath.basename(mount.target or "")
    if not identity:
        raise TextError("one of source, target required", hint="add id=NAME")
    target = mount.target
    if not target and not mount.env:
        target = "/run/secrets/" + posixpath.basename(identity)
    return replace(mount, id=identity, target=absolute(target, workdir))


def absolute(path: str | None, workdir: str | None) -> str | None:
    """A target below the working directory when it is relative and that is known."""
    if not path or workdir is None:
        return path
    joined = posixpath.normpath(posixpath.join("/", workdir, path))
    return "/" + joined.lstrip("/")


def parse_size(text: str) -> int:
    """Bytes of a size like ``64m``, ``1.5GiB`` or ``1024`` (units are powers of 1024); ``TextError`` when it is malformed."""
    match = _SIZE.fullmatch(text)
    if match is None or len(text) > 30:
        raise TextError(f"invalid value for size: {text}", hint="write it like 64m or 1g")
    return int(float(match[1]) * _SIZES[match[2].lower()])
