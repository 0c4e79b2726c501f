"""Docker archives (``docker save``), as kaniko's ``--tar-path`` writes them: config, layers, ``manifest.json``, no legacy files."""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from typing import BinaryIO

from pybuild.oci.descriptor import Descriptor

UNSET = "docker.io/unset-repo/unset-image-name:latest"


def write_archive(
    path: str,
    config: Descriptor,
    layers: Sequence[Descriptor],
    tags: Sequence[str],
    open_blob: Callable[[str], BinaryIO],
) -> None:
    """Write the archive; it appears whole or not at all. ``open_blob`` opens a blob by its digest. ``OSError``."""
    path = os.path.abspath(path)
    directory = os.path.dirname(path)
    os.makedirs(directory, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=directory, prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(fd, "wb") as out, tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            add_blob(archive, config.digest, config, open_blob)
            names = [f"{layer.digest.removeprefix('sha256:')}.tar.gz" for layer in layers]
            for name, layer in dict(zip(names, layers, strict=True)).items():
                add_blob(archive, name, layer, open_blob)
            manifest = [{"Config": config.digest, "RepoTags": list(tags) or [UNSET], "Layers": names}]
            data = json.dumps(manifest, separators=(",", ":")).encode()
            add(archive, "manifest.json", len(data), None, data)
        os.chmod(temporary, 0o644)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def add_blob(archive: tarfile.TarFile, name: str, descriptor: Descriptor, open_blob: Callable[[str], BinaryIO]) -> None:
    with open_blob(descriptor.digest) as f:
        add(archive, name, descriptor.size, f, b"")


def add(archive: tarfile.TarFile, name: str, size: int, source: BinaryIO | None, data: bytes) -> None:
    import io

    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    archive.addfile(info, source or io.BytesIO(data))
