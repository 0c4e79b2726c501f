"""Material: real files of this machine, and the layers and contexts made of them.

Contents decide how fast compression is and what comes out of it, names and sizes how fast a walk is, so both are taken
from ``/usr`` rather than made up. The choice depends on a seed only: two tools, and two runs on one machine, see the same.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from isal import igzip

from benchmarks.registry import BaseLayer

STEP = 1 << 20


@dataclass(frozen=True)
class Item:
    """An entry of a layer or context. ``source``: a real file to read, or else ``data`` or ``link`` (a symlink's target)."""

    path: str
    size: int = 0
    source: str = ""
    data: bytes = b""
    link: str = ""


class RealFiles:
    """The regular files and symlinks below a directory of this machine (``/usr``), one filesystem, sorted by path."""

    def __init__(self, top: str = "/usr") -> None:
        self.top = top
        self.files: list[tuple[str, int]] = []
        self.links: list[tuple[str, str]] = []
        self._walk()

    def _walk(self) -> None:
        device = os.lstat(self.top).st_dev
        for folder, folders, names in os.walk(self.top):
            folders.sort()
            for name in sorted(names + [f for f in folders if os.path.islink(os.path.join(folder, f))]):
                path = os.path.join(folder, name)
                found = os.lstat(path)
                if found.st_dev != device:
                    continue
                relative = os.path.relpath(path, self.top)
                if stat.S_ISREG(found.st_mode):
                    self.files.append((relative, found.st_size))
                elif stat.S_ISLNK(found.st_mode):
                    self.links.append((relative, os.readlink(path)))

    def take(self, count: int, total: int, seed: int) -> list[Item]:
        """``count`` files of about ``total`` bytes together. With more wanted than there are, files come again below ``again1/`` …"""
        largest = self._largest(total / count)
        some = [file for file in self.files if file[1] <= largest]
        # Few large files carry most of the bytes, so a small choice may be far off: of some choices the nearest.
        some = min((shuffled(some, seed + n) for n in range(12)), key=lambda files: abs(taken(files, count) - total))
        chosen = []
        for number in range(count):
            path, size = some[number % len(some)]
            again = number // len(some)
            name = f"again{again}/{path}" if again else path
            chosen.append(Item(name, size, source=os.path.join(self.top, path)))
        return sorted(chosen, key=lambda item: item.path)

    def take_links(self, count: int, seed: int) -> list[Item]:
        some = [link for link in self.links if len(link[1]) < 100]
        random.Random(seed).shuffle(some)
        return [Item(path, link=target) for path, target in sorted(some[:count])]

    def _largest(self, mean: float) -> int:
        """The size limit under which the files have about this mean size, in bytes."""
        total, limit = 0, self.files[0][1]
        for number, size in enumerate(sorted(size for _, size in self.files), start=1):
            total += size
            limit = size
            if total / number >= mean:
                break
        return limit


def shuffled(files: list[tuple[str, int]], seed: int) -> list[tuple[str, int]]:
    return random.Random(seed).sample(files, len(files))


def taken(files: list[tuple[str, int]], count: int) -> int:
    """Bytes of the first ``count`` files, beginning again when there are not so many."""
    whole, rest = divmod(count, len(files))
    return whole * sum(size for _, size in files) + sum(size for _, size in files[:rest])


def with_parents(items: Iterable[Item]) -> Iterator[tuple[Item, bool]]:
    """The items, each directory once before what is in it. The flag says: a directory."""
    made: set[str] = set()
    for item in items:
        parts = item.path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            folder = "/".join(parts[:depth])
            if folder not in made:
                made.add(folder)
                yield Item(folder), True
        yield item, False


class Tee(io.RawIOBase):
    """Writes to a gzip file and takes the digest of the plain side."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.digest.update(data)
        self.target.write(data)
        return len(data)


def gzip_writer(raw: Any) -> Any:
    """ISA-L level 1, one member, the same bytes for the same input."""
    return igzip.IGzipFile(fileobj=raw, filename="", mode="wb", compresslevel=1, mtime=0)  # type: ignore[no-untyped-call]


def write_layer(path: str, items: Iterable[Item]) -> tuple[BaseLayer, int]:
    """A gzip layer at ``path``; also the number of its entries."""
    count = 0
    with open(path, "wb") as raw, gzip_writer(raw) as packed:
        tee = Tee(packed)
        with tarfile.open(fileobj=tee, mode="w|", format=tarfile.PAX_FORMAT, bufsize=STEP) as archive:
            for item, folder in with_parents(items):
                add(archive, item, folder)
                count += 1
    return BaseLayer(path, file_digest(path), "sha256:" + tee.digest.hexdigest(), os.stat(path).st_size), count


def add(archive: tarfile.TarFile, item: Item, folder: bool) -> None:
    header = tarfile.TarInfo(item.path)
    header.mtime = 1_700_000_000
    if folder:
        header.type, header.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(header)
    elif item.link:
        header.type, header.mode, header.linkname = tarfile.SYMTYPE, 0o777, item.link
        archive.addfile(header)
    elif item.source:
        with open(item.source, "rb") as f:
            found = os.fstat(f.fileno())
            header.mode, header.mtime, header.size = stat.S_IMODE(found.st_mode), int(found.st_mtime), found.st_size
            archive.addfile(header, f)
    else:
        header.mode, header.size = 0o644, len(item.data)
        archive.addfile(header, io.BytesIO(item.data))


def compress_tar(tar: str, path: str) -> BaseLayer:
    """A gzip layer made of an existing tar file."""
    plain = hashlib.sha256()
    with open(tar, "rb") as source, open(path, "wb") as raw, gzip_writer(raw) as packed:
        while data := source.read(STEP):
            plain.update(data)
            packed.write(data)
    return BaseLayer(path, file_digest(path), "sha256:" + plain.hexdigest(), os.stat(path).st_size)


def file_digest(path: str) -> str:
    with open(path, "rb") as f:
        return "sha256:" + hashlib.file_digest(f, "sha256").hexdigest()


def write_context(folder: str, items: Iterable[Item]) -> None:
    """Copy the items to a directory, with their modes and times."""
    for item, is_folder in with_parents(items):
        target = os.path.join(folder, item.path)
        if is_folder:
            os.mkdir(target, 0o755)
        elif item.source:
            shutil.copy2(item.source, target)
        else:
            with open(target, "wb") as f:
                f.write(item.data)


def write_stream(path: str, files: RealFiles, size: int, seed: int) -> None:
    """One file of exactly ``size`` bytes: real files one after the other."""
    names = [name for name, length in files.files if length <= 64 << 20]
    random.Random(seed).shuffle(names)
    with open(path, "wb") as out:
        left, number = size, 0
        while left:
            with open(os.path.join(files.top, names[number % len(names)]), "rb") as f:
                while left and (data := f.read(min(STEP, left))):
                    out.write(data)
                    left -= len(data)
            number += 1


def busybox() -> list[Item]:
    """A static busybox with links for all its commands, as in the image of that name."""
    program = shutil.which("busybox")
    if program is None:
        raise RuntimeError("busybox is not installed (Debian package busybox-static)")
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    items = [Item("bin/busybox", source=program), Item("etc/passwd", data=b"root:x:0:0:root:/root:/bin/sh\n")]
    items += [Item(f"bin/{name}", link="busybox") for name in names if name != "busybox"]
    return [*items, Item("etc/group", data=b"root:x:0:\n")]
