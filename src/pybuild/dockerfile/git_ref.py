"""Git repositories as sources: what is one, and its parts.

Source: BuildKit. ``https://host/path.git``, ``git://…``, ``ssh://…``, ``user@host:path``; ``github.com/…`` for a build context only.
A reference and a directory follow as ``#ref:directory``, or in a query: ``ref tag branch subdir checksum commit keep-git-dir
submodules mtime fetch-by-commit``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, unquote, urlsplit

from pybuild.dockerfile.suggest import did_you_mean
from pybuild.dockerfile.text_error import TextError

_SCHEME = re.compile(r"([a-zA-Z0-9]+)://")
_SCP = re.compile(r"([a-zA-Z0-9\-_]+)@([a-zA-Z0-9\-.]+):([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))
_KEYS = (
    "ref",
    "tag",
    "branch",
    "subdir",
    "checksum",
    "commit",
    "keep-git-dir",
    "submodules",
    "mtime",
    "fetch-by-commit",
)
_BARE = frozenset(("keep-git-dir", "submodules", "fetch-by-commit"))


@dataclass(frozen=True, slots=True)
class GitRef:
    """``remote`` is what git is given; ``name`` the repository's own (for a destination). Empty fields and ``None``: not said."""

    remote: str
    name: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None
    fetch_by_commit: bool | None = None
    mtime: str = ""
    #: over a connection that anybody on the way can read and change (git, http)
    unencrypted: bool = False


def parse_git_ref(text: str, *, context: bool = False) -> GitRef | None:
    """The parts of a git repository's address, ``None`` when the text is none. ``context`` also takes ``github.com/…``.

    ``TextError`` for unknown or contradictory keys in the query."""
    if text.startswith(("./", "../")):
        return None
    scheme = _SCHEME.match(text)
    if text.startswith("github.com/"):
        if not context:
            return None
        return _from_url("https", text, "https://")
    if scheme is not None:
        name = scheme[1].lower()
        if name not in ("http", "https", "ssh", "git"):
            return None
        return _from_url(name, text, "")
    match = _SCP.fullmatch(text)
    if match is None:
        return None
    remote = f"{match[1]}@{match[2]}:{match[3]}"
    return _with_query(_with_fragment(_plain(remote), match[5] or ""), match[4] or "")


def _plain(remote: str) -> GitRef:
    name = remote.rstrip("/").rpartition("/")[2].rpartition(":")[2].removesuffix(".git")
    return GitRef(remote, name)


def _from_url(scheme: str, text: str, prefix: str) -> GitRef | None:
    before, _, fragment = text.partition("#")
    address, _, query = before.partition("?")
    try:
        path = unquote(urlsplit(prefix + address).path)
    except ValueError:
        return None
    if not prefix and scheme in ("http", "https") and not path.endswith(".git"):
        return None
    found = _with_query(_with_fragment(_plain(prefix + address), unquote(fragment)), query)
    return replace(found, unencrypted=scheme in ("http", "git"))


def _with_fragment(found: GitRef, fragment: str) -> GitRef:
    ref, _, subdir = fragment.partition(":")
    return replace(found, ref=ref, subdir=subdir)


def _agree(what: str, before: str, now: str) -> str:
    if before and before != now:
        raise TextError(f"{what} conflicts: {before!r} vs {now!r}", hint="give it once")
    return now


def _flag(key: str, value: str) -> bool:
    if value == "" or value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise TextError(f"invalid {key} value: {value!r}", hint="it takes true or false")


def _with_query(found: GitRef, query: str) -> GitRef:
    if not query:
        return found
    try:
        values = parse_qs(query, keep_blank_values=True, strict_parsing=False, max_num_fields=100)
    except ValueError as e:
        raise TextError(f"invalid query in a git address: {e}") from None
    for key, items in values.items():
        if key not in _KEYS:
            hint = did_you_mean(key, _KEYS) or f"the keys are {', '.join(_KEYS)}"
            raise TextError(f"unexpected query {key!r}", hint=hint)
        if len(items) > 1:
            raise TextError(f"query {key!r} has multiple values", hint="give it once")
        if not items[0] and key not in _BARE:
            raise TextError(f"query {key!r} has no value", hint=f"write {key}=VALUE")
    one: Callable[[str], str] = lambda key: values.get(key, [""])[0]  # noqa: E731
    if one("ref"):
        found = replace(found, ref=_agree("ref", found.ref, one("ref")))
    if one("subdir"):
        found = replace(found, subdir=_agree("subdir", found.subdir, one("subdir")))
    if one("tag") and one("branch"):
        raise TextError("branch conflicts with tag", hint="give one of them")
    for key, prefix in (("tag", "refs/tags/"), ("branch", "refs/heads/")):
        if one(key):
            found = replace(found, ref=_agree("ref", found.ref, prefix + one(key).removeprefix(prefix)))
    checksum = _agree("checksum", one("checksum"), one("commit")) if one("commit") else one("checksum")
    if checksum:
        found = replace(found, checksum=checksum, ref=found.ref or checksum)
    if one("mtime") and one("mtime") not in ("checkout", "commit"):
        raise TextError(f"invalid mtime value: {one('mtime')!r}", hint="it is checkout or commit")
    return replace(
        found,
        mtime=one("mtime"),
        keep_git_dir=_flag("keep-git-dir", one("keep-git-dir")) if "keep-git-dir" in values else None,
        submodules=_flag("submodules", one("submodules")) if "submodules" in values else None,
        fetch_by_commit=_flag("fetch-by-commit", one("fetch-by-commit")) if "fetch-by-commit" in values else None,
    )
