"""COPY and ADD as instructions: where their sources come from, and what ADD does beyond copying (URLs, archives)."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

from pybuild.build import history
from pybuild.build.copy import (
    Destination,
    Placement,
    SourceTree,
    check_conflicts,
    copy_into,
    destination_path,
    expand_sources,
    find,
)
from pybuild.build.tree import Root, Tree
from pybuild.dockerfile.instructions import Add, Copy, Heredoc, Instruction
from pybuild.dockerfile.modes import parse_chmod
from pybuild.errors import ContextError, DigestError, DockerfileError

if TYPE_CHECKING:
    from pybuild._native.entries import EntryList
    from pybuild._native.match import Matcher
    from pybuild.build.stage import Stage

_REMOTE = re.compile(r"^https?://", re.IGNORECASE)
_ARCHIVE_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")


def copy_step(stage: Stage, instruction: Copy | Add, raw: Instruction) -> None:
    """Carry out an expanded COPY or ADD and make its layer."""
    from pybuild._native.entries import EntryList

    place = instruction.place
    tree = stage.tree(raw.text)
    entries = EntryList()
    owner = resolve_owner(tree, instruction)
    try:
        mode = parse_chmod(instruction.chmod) if instruction.chmod else None
    except ValueError as e:
        raise DockerfileError(str(e), place=place) from None
    placement = Placement(owner, mode, stage.session.now_ns)
    target, must_be_dir = destination_path(stage.section.get("WorkingDir", ""), instruction.destination)
    if instruction.link:
        from pybuild._native.index import Index

        destination = Destination(Index(), entries, place)
    else:
        destination = Destination(tree.index, entries, place)
    exclude = exclude_matcher(instruction)
    add_heredocs(destination, instruction.heredocs, target, must_be_dir, placement)
    if isinstance(instruction, Copy):
        source = stage.source_tree(instruction.from_) if instruction.from_ else stage.session.context()
        if instruction.parents:
            from pybuild.build.parents import copy_parents

            copy_parents(destination, source, instruction.sources, target, placement, exclude, stage.session.cancel)
        else:
            sources = expand_sources(source, instruction.sources, place)
            check_count(instruction, len(sources) + len(instruction.heredocs), destination, target)
            copy_into(
                destination,
                source,
                sources,
                target,
                must_be_dir=must_be_dir,
                placement=placement,
                exclude=exclude,
                cancel=stage.session.cancel,
            )
    else:
        check_count(instruction, len(instruction.sources) + len(instruction.heredocs), destination, target)
        for text in instruction.sources:
            add_source(stage, destination, instruction, text, target, must_be_dir, placement, exclude)
    if instruction.link:
        keep_existing_parents(tree, entries, destination)
    else:
        check_conflicts(destination)
    stage.commit(entries, raw, history.created_by(raw, None, {}))


def check_count(instruction: Copy | Add, count: int, destination: Destination, target: str) -> None:
    """Several sources, as many as their patterns gave, need a directory to go to."""
    if count < 2 or instruction.destination.endswith(("/", "/.")) or instruction.destination == ".":
        return
    if destination.is_dir(destination.index.resolve(target)):
        return
    name = type(instruction).__name__.upper()
    raise DockerfileError(
        f"When using {name} with more than one source file, the destination must be a directory and end with a /",
        place=instruction.place,
        hint=f"write {instruction.destination}/",
    )


def resolve_owner(tree: Tree, instruction: Copy | Add) -> tuple[int, int] | None:
    """``--chown`` by the names of the image's own passwd and group files."""
    if not instruction.chown:
        return None
    from pybuild.rootfs.users import resolve_chown

    return resolve_chown(instruction.chown, tree.read("etc/passwd"), tree.read("etc/group"))


def exclude_matcher(instruction: Copy | Add) -> Matcher | None:
    if not instruction.excludes:
        return None
    from pybuild._native.match import Matcher

    try:
        return Matcher(instruction.excludes)
    except ValueError as e:
        raise DockerfileError(f"bad --exclude: {e}", place=instruction.place) from None


def keep_existing_parents(tree: Tree, entries: EntryList, destination: Destination) -> None:
    """``--link``: directories that were made blindly keep the mode and owner they have in the image."""
    for path in destination.made:
        found = tree.index.lookup(path)
        if found is not None and found.type == "dir":
            entries.add(path, "dir", mode=found.mode, uid=found.uid, gid=found.gid, mtime_ns=found.mtime_ns)


def add_heredocs(destination: Destination, heredocs: Sequence[Heredoc], target: str, must_be_dir: bool, placement: Placement) -> None:
    """Here-documents are files named after their mark, mode 0644."""
    for heredoc in heredocs:
        data = heredoc.content.encode("utf-8", "surrogateescape")
        put_file(destination, target, heredoc.name, must_be_dir, placement, data=data, mode=0o644, mtime_ns=placement.now_ns)


def put_file(
    destination: Destination,
    target: str,
    name: str,
    must_be_dir: bool,
    placement: Placement,
    *,
    mode: int,
    mtime_ns: int,
    data: bytes | None = None,
    root: int = -1,
    source: str = "",
    size: int = 0,
) -> None:
    """One file with known contents at the destination, below it when that is a directory."""
    resolved = destination.index.resolve(target)
    destination.make_dirs(resolved if must_be_dir else posixpath.dirname(resolved), placement)
    if must_be_dir or destination.is_dir(resolved):
        resolved = posixpath.join(resolved, name)
    uid, gid = placement.owner or (0, 0)
    if placement.mode is not None:
        mode = placement.mode.apply(mode, False)
    destination.entries.add(
        resolved, "file", mode=mode, uid=uid, gid=gid, mtime_ns=mtime_ns, data=data, root=root, source=source, size=size
    )


def add_source(
    stage: Stage,
    destination: Destination,
    instruction: Add,
    text: str,
    target: str,
    must_be_dir: bool,
    placement: Placement,
    exclude: Matcher | None,
) -> None:
    """One source of ADD: a git repository, a URL, or paths of the context of which archives are unpacked."""
    from pybuild.dockerfile.git_ref import parse_git_ref

    if parse_git_ref(text) is not None:
        raise DockerfileError(
            f"ADD {redact(text)}: git repositories are not supported yet",
            place=instruction.place,
            hint="clone it in a RUN, or add the archive that the host offers by https",
        )
    if _REMOTE.match(text):
        add_url(stage, destination, instruction, text, target, must_be_dir, placement)
        return
    if instruction.checksum:
        raise DockerfileError("checksum can't be specified for local sources", place=instruction.place)
    context = stage.session.context()
    for source in expand_sources(context, [text], instruction.place):
        followed, stat = find(context, source, instruction.place)
        if instruction.unpack is not False and stat.type == "file" and unpack(stage, destination, context, followed, target, placement):
            continue
        copy_into(
            destination,
            context,
            [source],
            target,
            must_be_dir=must_be_dir,
            placement=placement,
            exclude=exclude,
            cancel=stage.session.cancel,
        )


def redact(url: str) -> str:
    """A URL without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def looks_like_archive(head: bytes) -> bool:
    """Whether a file's first 512 bytes are those of a compressed stream or a tar archive."""
    if any(head.startswith(magic) for magic in _ARCHIVE_MAGIC):
        return True
    if len(head) < 512:
        return False
    try:
        stored = int(head[148:156].split(b"\0", 1)[0].strip() or b"x", 8)
    except ValueError:
        return False
    return sum(head[:148]) + 8 * 32 + sum(head[156:512]) == stored


def unpack(stage: Stage, destination: Destination, tree: SourceTree, source: str, target: str, placement: Placement) -> bool:
    """Unpack a local archive to the destination directory; false when the file is none (it is copied then).

    ``--chown`` applies to every entry, ``--chmod`` to none, as in BuildKit."""
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=tree.fd)
    with os.fdopen(fd, "rb") as f:
        head = f.read(512)
        if not looks_like_archive(head):
            return False
        f.seek(0)
        return unpack_stream(stage, destination, f, head, target, placement)


def unpack_stream(stage: Stage, destination: Destination, stream: BinaryIO, head: bytes, target: str, placement: Placement) -> bool:
    """Unpack an archive that can be read from ``stream`` into a directory of the build, and collect it from there."""
    from pybuild._native.index import Index
    from pybuild._native.untar import Extractor
    from pybuild.errors import ArchiveError
    from pybuild.rootfs.extract import extract_archive

    session = stage.session
    resolved = destination.index.resolve(target)
    index = Index()
    scratch = Root(session.directory("archive"))
    try:
        extractor = Extractor(index, scratch.fd, whiteouts=False, strict=True, owners=session.owners, devices=session.owners)
        try:
            extract_archive(stream, head, extractor, cancel=session.cancel)
        except ArchiveError as e:
            if not extractor.files and head[:2] in (m[:2] for m in _ARCHIVE_MAGIC):
                # compressed, but no archive: it is a file like any other
                return False
            e.place = destination.place
            raise
        destination.make_dirs(resolved, placement)
        destination.entries.extend(index.entries(scratch.fd, dest=resolved, owner=placement.owner))
    finally:
        scratch.close()
    return True


@dataclass(frozen=True, slots=True)
class Fetched:
    """A downloaded source of ADD: a file of the build, its name and time."""

    path: str
    name: str
    mtime_ns: int
    size: int


def add_url(
    stage: Stage, destination: Destination, instruction: Add, url: str, target: str, must_be_dir: bool, placement: Placement
) -> None:
    """A remote file: mode 0600, time of its Last-Modified, named after the URL's path; unpacked only with ``--unpack``."""
    fetched = fetch(stage, instruction, url)
    if must_be_dir and not fetched.name:
        raise DockerfileError(
            f"cannot determine filename for source {redact(url)}", place=instruction.place, hint="give a destination with a file name"
        )
    directory = Root(os.path.dirname(fetched.path))
    try:
        if instruction.unpack:
            with open(fetched.path, "rb") as f:
                head = f.read(512)
                f.seek(0)
                if looks_like_archive(head) and unpack_stream(stage, destination, f, head, target, placement):
                    return
        put_file(
            destination,
            target,
            fetched.name or "__unnamed__",
            must_be_dir,
            placement,
            mode=0o600,
            mtime_ns=fetched.mtime_ns,
            root=destination.entries.add_root(directory.fd),
            source=os.path.basename(fetched.path),
            size=fetched.size,
        )
    finally:
        directory.close()


def fetch(stage: Stage, instruction: Add, url: str) -> Fetched:
    """Download a URL into the build's directory; ``--checksum`` is verified while it streams."""
    import email.utils

    import httpx

    from pybuild.errors import RegistryError

    wanted = instruction.checksum
    if wanted and not re.fullmatch(r"sha256:[0-9a-f]{64}", wanted):
        raise DockerfileError(f"checksum {wanted!r} is not sha256:<64 hex digits>", place=instruction.place)
    path = os.path.join(stage.session.directory("add"), "content")
    digest = hashlib.sha256()
    size = 0
    try:
        with (
            open(path, "xb") as out,
            httpx.Client(follow_redirects=True, timeout=httpx.Timeout(30.0, read=120.0)) as client,
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status_code >= 400:
                raise RegistryError(f"invalid response status {response.status_code} for {redact(url)}", place=instruction.place)
            for chunk in response.iter_raw(1 << 20):
                stage.session.check_cancelled()
                digest.update(chunk)
                out.write(chunk)
                size += len(chunk)
            modified = response.headers.get("Last-Modified", "")
            final = str(response.url)
    except httpx.HTTPError as e:
        raise RegistryError(f"cannot fetch {redact(url)}: {type(e).__name__}: {e}", place=instruction.place) from None
    found = f"sha256:{digest.hexdigest()}"
    if wanted and found != wanted:
        raise DigestError(f"digest mismatch for {redact(url)}: {found}, expected {wanted}", place=instruction.place)
    mtime_ns = 0
    if modified:
        try:
            mtime_ns = int(email.utils.parsedate_to_datetime(modified).timestamp()) * 1_000_000_000
        except ValueError:
            mtime_ns = 0
    name = posixpath.basename(unquote(urlsplit(url).path)) or posixpath.basename(unquote(urlsplit(final).path))
    if name in (".", "..") or "/" in name or "\0" in name:
        raise ContextError(f"{redact(url)} names no file", place=instruction.place)
    return Fetched(path, name, mtime_ns, size)
