"""The value of ``--context`` made into a directory."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pybuild.errors import ContextError

#: kinds that kaniko knows
_LATER = ("gs://", "tar://", "s3://", "git://", "https://")
_UNKNOWN = "unknown build context prefix provided, please use one of the following: gs://, dir://, tar://, s3://, git://, https://"


@dataclass(frozen=True, slots=True)
class Context:
    """A build context: ``root`` is the absolute path of its directory, which need not exist."""

    root: str


def resolve(text: str, *, bucket: str = "", sub_path: str = "", directory: str = "") -> Context:
    """Find the context that ``--context`` names, seen from ``directory`` (default: the current one).

    A path, or ``dir://PATH``. A relative ``dir://`` path that does not exist is taken from ``/``: ``dir://workspace`` is in many
    pods' manifests. ``bucket`` is ``--bucket``, which counts when the text is empty. ``ContextError`` for every other kind, and for
    a ``sub_path`` that is missing or leads out of the context.
    """
    directory = directory or os.getcwd()
    if not text:
        if not bucket:
            raise ContextError(
                "please specify a path to the build context with the --context flag or a bucket with the --bucket flag"
            )
        text = bucket if "://" in bucket else f"gs://{bucket}"
    if text.startswith("dir://"):
        path = text.removeprefix("dir://")
        root = os.path.join(directory, path)
        if not os.path.isabs(path) and not os.path.isdir(root) and os.path.isdir(f"/{path}"):
            root = f"/{path}"
    elif "://" in text:
        for kind in _LATER:
            if text.startswith(kind):
                raise ContextError(
                    f"{kind} build contexts are not supported in this version", hint="unpack it and give the directory"
                )
        raise ContextError(_UNKNOWN)
    else:
        root = os.path.join(directory, text)
    root = absolute(root)
    return Context(below(root, sub_path) if sub_path else root)


def absolute(path: str) -> str:
    """A tidy absolute path for the same file: ``..`` goes through symbolic links as the kernel does."""
    return os.path.realpath(path) if ".." in path.split("/") else os.path.abspath(path)


def below(root: str, sub_path: str) -> str:
    """A directory inside the context, with symbolic links followed."""
    found = os.path.realpath(os.path.join(root, sub_path.lstrip("/")))
    real = os.path.realpath(root)
    if found != real and not found.startswith(real.rstrip("/") + "/"):
        raise ContextError(f"--context-sub-path {sub_path} leads out of the context")
    if not os.path.isdir(found):
        raise ContextError(f"--context-sub-path {sub_path}: no such directory in {root}")
    return found


def find_dockerfile(text: str, context: Context, *, directory: str = "") -> str:
    """The absolute path of the Dockerfile: as seen from ``directory`` (default: the current one), else from the context.

    ``ContextError`` in kaniko's words when neither is there.
    """
    if text.startswith(("http://", "https://")):
        raise ContextError("a Dockerfile from the web is not supported in this version", hint="download it first")
    for base in (directory or os.getcwd(), context.root):
        path = absolute(os.path.join(base, text))
        if text and os.path.exists(path) and not os.path.isdir(path):
            return path
    raise ContextError(
        "please provide a valid path to a Dockerfile within the build context with --dockerfile",
        hint=f"looked for {text!r} in {directory or os.getcwd()} and in {context.root}",
    )
