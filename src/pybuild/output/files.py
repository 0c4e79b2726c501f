"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """A new file, mode 0644, that takes the place of ``path`` when the block ends well and is gone when it does not.

    A device, pipe or the target of a link (``/dev/stdout``, ``/dev/termination-log``) is written to as it is, and so is a file
    that is mounted on its own and cannot be replaced. The directory is made (0700) when it is missing, as kaniko does. ``OSError``.
    """
    directory = os.path.dirname(os.path.abspath(path))
    os.makedirs(directory, mode=0o700, exist_ok=True)
    if os.path.islink(path) or (os.path.lexists(path) and not os.path.isfile(path)):
        with open(path, "wb") as f:
            yield f
        return
    fd, temporary = tempfile.mkstemp(dir=directory, prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(fd, "wb") as f:
            yield f
        os.chmod(temporary, 0o644)
        try:
            os.rename(temporary, path)
        except OSError as e:
            if e.errno not in (errno.EBUSY, errno.EXDEV):
                raise
            with open(temporary, "rb") as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            os.unlink(temporary)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
