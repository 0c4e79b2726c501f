"""Small files that say what was built, as kaniko writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from pybuild.errors import OutputError
from pybuild.oci.reference import Reference
from pybuild.output.files import whole_file

PUT_TIMEOUT = 60.0


def write_digest_file(path: str, digest: str) -> None:
    """The manifest's digest, without a newline. A value that begins with ``https://`` is sent there by PUT. ``OSError``, ``OutputError``."""
    if path.startswith("https://"):
        put_digest(path, digest)
    else:
        write_text(path, digest)


def put_digest(url: str, digest: str) -> None:
    """``OutputError`` when the server does not take it. The URL may carry a secret: only its host is told."""
    from urllib.parse import urlsplit

    import httpx

    host = urlsplit(url).hostname
    try:
        response = httpx.put(url, content=digest.encode(), headers={"Content-Type": "text/plain"}, timeout=PUT_TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as e:
        raise OutputError(f"cannot send the digest to {host}: {type(e).__name__}") from None
    if response.status_code >= 400:
        raise OutputError(f"cannot send the digest to {host}: it answered with status {response.status_code}")


def write_image_name_files(name_path: str, tag_path: str, destinations: Sequence[Reference], digest: str) -> None:
    """``registry/repository@digest`` and ``registry/repository:tag@digest``, a line for each destination; an empty path is skipped.

    When both are asked for, kaniko writes the tag into both files, and scripts have come to read it there: so it is here. ``OSError``."""
    with_tag = "".join(f"{d.name}{f':{d.tag}' if d.tag else ''}@{digest}\n" for d in destinations)
    if name_path:
        write_text(name_path, with_tag if tag_path else "".join(f"{d.name}@{digest}\n" for d in destinations))
    if tag_path:
        write_text(tag_path, with_tag)


def write_builder_output(directory: str, destinations: Sequence[Reference], digest: str) -> None:
    """``DIRECTORY/images`` (``$BUILDER_OUTPUT``): a JSON line for each destination that was pushed. ``OSError``."""
    lines = [json.dumps({"name": d.familiar, "digest": digest}, separators=(",", ":")) + "\n" for d in destinations]
    write_text(os.path.join(directory, "images"), "".join(lines))


def write_text(path: str, text: str) -> None:
    """Write a file whole or not at all; a device or pipe is written to as it is. ``OSError``."""
    with whole_file(path) as f:
        f.write(text.encode())
