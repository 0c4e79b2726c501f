"""Docker archives (``docker save``), as kaniko's ``--tar-path`` writes them: config, layers, ``manifest.json``, no legacy files."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from typing import Any, cast

from pybuild.oci.descriptor import Descriptor, check_digest
from pybuild.oci.layout import Readable
from pybuild.output.files import whole_file

UNSET = "docker.io/unset-repo/unset-image-name:latest"
PIECE = 1 << 20


def write_archive(
    path: str,
    config: Descriptor,
    layers: Sequence[Descriptor],
    tags: Sequence[str],
    open_blob: Callable[[str], Readable],
) -> None:
    """Write the archive; it appears whole or not at all. ``open_blob`` opens a blob by its digest. ``tags`` are written as
    they are. Entries have the time 0: the same image gives the same bytes. ``OSError``."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with whole_file(path) as out:
        # a stream ("w|") is never sought in, so that a pipe will do
        with cast(Any, tarfile.open)(fileobj=out, mode="w|", bufsize=PIECE, format=tarfile.PAX_FORMAT, copybufsize=PIECE) as archive:
            add(archive, config.digest, config.size, open_blob(config.digest))
            names = [f"{check_digest(layer.digest).removeprefix('sha256:')}.tar.gz" for layer in layers]
            for name, layer in dict(zip(names, layers, strict=True)).items():
                add(archive, name, layer.size, open_blob(layer.digest))
            manifest = [{"Config": config.digest, "RepoTags": list(dict.fromkeys(tags)) or [UNSET], "Layers": names}]
            data = json.dumps(manifest, separators=(",", ":")).encode()
            add(archive, "manifest.json", len(data), io.BytesIO(data))


def add(archive: tarfile.TarFile, name: str, size: int, source: Readable) -> None:
    """An entry with the bytes of ``source``, which is closed; ``OSError`` when they are fewer than ``size``."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    with source:
        archive.addfile(info, cast(Any, source))
