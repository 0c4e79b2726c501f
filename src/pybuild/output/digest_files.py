"""Small files that say what was built, as kaniko writes them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

from pybuild.oci.reference import Reference


def write_digest_file(path: str, digest: str) -> None:
    """The manifest's digest, without a newline. ``OSError``."""
    write_text(path, digest)


def write_image_name_files(name_path: str, tag_path: str, destinations: Sequence[Reference], digest: str) -> None:
    """``registry/repository@digest`` and ``registry/repository:tag@digest``, a line for each destination; an empty path is skipped."""
    if name_path:
        write_text(name_path, "".join(f"{d.name}@{digest}\n" for d in destinations))
    if tag_path:
        write_text(tag_path, "".join(f"{d.name}:{d.tag}@{digest}\n" for d in destinations))


def write_text(path: str, text: str) -> None:
    """Write a file whole or not at all; a device or pipe (``/dev/termination-log``) is written to as it is."""
    directory = os.path.dirname(os.path.abspath(path))
    os.makedirs(directory, mode=0o700, exist_ok=True)
    if os.path.lexists(path) and not os.path.isfile(path):
        with open(path, "w") as f:
            f.write(text)
        return
    fd, temporary = tempfile.mkstemp(dir=directory, prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(fd, "w") as f:
            f.write(text)
        os.chmod(temporary, 0o644)
        try:
            os.rename(temporary, path)
        except OSError:
            # a file that is mounted on its own (a pod's termination log) cannot be replaced
            with open(path, "w") as f:
                f.write(text)
            os.unlink(temporary)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise
