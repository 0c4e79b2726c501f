"""Writing to the standard streams, whole and at once."""

from __future__ import annotations

import os


def write_all(fd: int, data: bytes) -> None:
    """Write everything, also to a descriptor that somebody made non-blocking. ``BrokenPipeError`` when nobody reads any more."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            import select

            select.select((), (fd,), ())


def encoded(text: str) -> bytes:
    """UTF-8; bytes of file names that are none stay as they are."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
