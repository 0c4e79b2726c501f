"""Tar streams block by block, so that a test can say anything, also what no tar program would."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from pybuild._native.index import Index
from pybuild._native.untar import Extractor

END = bytes(1024)


def octal(value: int | bytes, width: int) -> bytes:
    return value if isinstance(value, bytes) else f"{value:0{width - 1}o}\0".encode()


def header(
    name: str | bytes,
    type: str = "0",
    *,
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    link: str | bytes = "",
    magic: bytes = b"ustar\x0000",
    dev: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    raw = os.fsencode(name)
    block = bytearray(512)
    fields = [
        (0, raw, 100), (100, octal(mode, 8), 8), (108, octal(uid, 8), 8), (116, octal(gid, 8), 8), (124, octal(size, 12), 12),
        (136, octal(mtime, 12), 12), (148, b" " * 8, 8), (156, type.encode(), 1), (157, os.fsencode(link), 100), (257, magic, 8),
        (329, octal(dev[0], 8), 8), (337, octal(dev[1], 8), 8), (345, prefix, 155),
    ]  # fmt: skip
    for at, value, width in fields:
        assert len(value) <= width, (name, value)
        block[at : at + len(value)] = value
    block[148:156] = checksum or f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def entry(name: str | bytes, data: bytes = b"", **fields: Any) -> bytes:
    """A regular file."""
    return header(name, size=fields.pop("size", len(data)), **fields) + padded(data)


def directory(name: str, **fields: Any) -> bytes:
    return header(name, "5", mode=fields.pop("mode", 0o755), **fields)


def symlink(name: str, target: str) -> bytes:
    return header(name, "2", link=target, mode=0o777)


def hardlink(name: str, target: str) -> bytes:
    return header(name, "1", link=target)


def record(key: str, value: str | bytes) -> bytes:
    body = b" " + key.encode() + b"=" + (os.fsencode(value)) + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def pax(records: dict[str, str | bytes] | bytes, type: str = "x") -> bytes:
    data = records if isinstance(records, bytes) else b"".join(record(k, v) for k, v in records.items())
    return header("pax", type, size=len(data)) + padded(data)


def gnu_long(text: str, type: str = "L") -> bytes:
    data = os.fsencode(text) + b"\0"
    return header("././@LongLink", type, size=len(data), magic=b"ustar  \0") + padded(data)


def libarchive_value(value: bytes) -> str:
    return base64.b64encode(value).decode().rstrip("=")


def extract(
    root: Path, *blocks: bytes, index: Index | None = None, chunk: int = 0, end: bytes = END, **options: Any
) -> Index:
    """Unpack blocks below ``root`` (which is made) in pieces of ``chunk`` bytes and give the index."""
    root.mkdir(exist_ok=True)
    index = index if index is not None else Index()
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        extractor = Extractor(index, fd, **options)
    finally:
        os.close(fd)
    stream = b"".join(blocks) + end
    step = chunk or len(stream) or 1
    for at in range(0, len(stream), step):
        extractor.feed(stream[at : at + step])
    extractor.finish()
    return index


def listing(root: Path) -> dict[str, str]:
    """What is on disk: path to type letter, with the target of a symlink."""
    found = {}
    for where, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(where, name)
            if path.is_symlink():
                found[str(path.relative_to(root))] = f"l {os.readlink(path)}"
            else:
                found[str(path.relative_to(root))] = "d" if path.is_dir() else "f" if path.is_file() else "o"
    return found


def indexed(index: Index, path: str = "") -> dict[str, str]:
    """The same from the index."""
    found = {}
    letters = {"dir": "d", "file": "f", "symlink": "l"}
    for name, kind in index.children(path):
        whole = f"{path}/{name}" if path else name
        found[whole] = letters.get(kind, "o")
        if kind == "symlink":
            stat = index.lookup(whole)
            assert stat is not None
            found[whole] += f" {stat.link}"
        if kind == "dir":
            found.update(indexed(index, whole))
    return found
