"""``--secret`` and ``--ssh``: what RUN mounts may have of this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from pybuild.build.options import SecretSource
from pybuild.cli.values import parse_names
from pybuild.errors import UsageError


def parse_secrets(texts: Sequence[str], environment: Mapping[str, str]) -> tuple[SecretSource, ...]:
    """The secrets of all ``--secret`` flags. ``UsageError`` when one is malformed, missing or given twice."""
    found = [parse_secret(text, environment) for text in texts]
    for secret in found:
        if sum(other.id == secret.id for other in found) > 1:
            raise UsageError(f"--secret: the id {secret.id} is given twice")
    return tuple(found)


def parse_secret(text: str, environment: Mapping[str, str]) -> SecretSource:
    """``id=ID`` and one of ``src=FILE``, ``source=FILE``, ``env=NAME``; with neither, the variable named as the id, else the file."""
    fields: dict[str, str] = {}
    try:
        parts = parse_names(text)
    except ValueError as e:
        raise UsageError(f"--secret {text}: {e}") from None
    for part in parts:
        key, equals, value = part.partition("=")
        key = {"source": "src"}.get(key.strip().lower(), key.strip().lower())
        if not equals or key not in ("id", "src", "env", "type"):
            raise UsageError(
                f"--secret {text}: unexpected field {part!r}", hint="write id=ID,src=FILE or id=ID,env=VARIABLE"
            )
        if key in fields:
            raise UsageError(f"--secret {text}: {key} is given twice")
        fields[key] = value
    name, kind = fields.get("id", ""), fields.get("type", "")
    if not name:
        raise UsageError(f"--secret {text}: an id is needed")
    if kind not in ("", "file", "env"):
        raise UsageError(f"--secret {text}: type is file or env")
    if "src" in fields and "env" in fields:
        raise UsageError(f"--secret {text}: src and env exclude each other")
    variable = fields.get("env", fields.get("src", name) if kind == "env" else "")
    if not variable and "src" not in fields and kind != "file" and name in environment:
        variable = name
    if variable:
        if variable not in environment:
            raise UsageError(f"--secret {name}: the environment variable {variable} is not set")
        return SecretSource(name, "env", variable)
    path = os.path.abspath(os.path.expanduser(fields.get("src", name)))
    if not os.path.isfile(path):
        raise UsageError(f"--secret {name}: {path} is not a file")
    return SecretSource(name, "file", path)


def parse_ssh(texts: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Sockets of agents by id: ``default`` is the environment's SSH_AUTH_SOCK, ``ID=SOCKET`` any other."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, socket = text.partition("=")
        if not equals:
            socket = environment.get("SSH_AUTH_SOCK", "")
            if not socket:
                raise UsageError(f"--ssh {text}: SSH_AUTH_SOCK is not set", hint="start an agent or give ID=SOCKET")
        found[name or "default"] = os.path.abspath(socket)
    return found
