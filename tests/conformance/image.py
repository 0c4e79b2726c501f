"""What an image says, read with the standard library alone: nothing of the builder under test checks itself."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pathlib
import tarfile
from typing import Any

Tree = dict[str, dict[str, Any]]

_KINDS = {
    tarfile.DIRTYPE: "dir",
    tarfile.REGTYPE: "file",
    tarfile.SYMTYPE: "symlink",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
}
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def read_layout(layout: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any], list[bytes]]:
    """Manifest, config and the plain tars of the one image in a layout; every digest and size is checked."""

    def blob(descriptor: dict[str, Any]) -> bytes:
        data = (layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
        assert sha256(data) == descriptor["digest"]
        assert len(data) == descriptor["size"]
        return data

    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest = json.loads(blob(entry))
    config = json.loads(blob(manifest["config"]))
    tars = [gzip.decompress(blob(layer)) for layer in manifest["layers"]]
    assert config["rootfs"]["diff_ids"] == [sha256(tar) for tar in tars]
    if config.get("history"):
        assert sum(not step.get("empty_layer") for step in config["history"]) == len(tars)
    return manifest, config, tars


def merged(tars: list[bytes]) -> Tree:
    """The files of all layers, one over the other: path → type, mode, uid, gid, and size, sha256, link where there are such."""
    tree: Tree = {}
    for tar in tars:
        apply_layer(tree, tar)
    return tree


def apply_layer(tree: Tree, tar: bytes) -> None:
    new: set[str] = set()
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        for member in archive:
            path = member.name.strip("/").removeprefix("./")
            assert ".." not in path.split("/"), f"{member.name} leads out of the image"
            parent, _, name = path.rpartition("/")
            if name == _OPAQUE:
                remove(tree, parent, keep={parent, *new})
            elif name.startswith(_WHITEOUT):
                remove(tree, f"{parent}/{name[4:]}".lstrip("/"), keep=new)
            else:
                assert path not in new, f"{path} is twice in one layer"
                new.add(path)
                entry = described(archive, member, tree)
                if entry["type"] != "dir":
                    remove(tree, path, keep=new)
                tree[path] = entry


def remove(tree: Tree, path: str, keep: set[str]) -> None:
    for found in [p for p in tree if (p == path or p.startswith(f"{path}/")) and p not in keep]:
        del tree[found]


def described(archive: tarfile.TarFile, member: tarfile.TarInfo, tree: Tree) -> dict[str, Any]:
    if member.islnk():
        target = tree[member.linkname.strip("/")]
        target["hardlink"] = True
        return dict(target)
    entry: dict[str, Any] = {
        "type": _KINDS[member.type],
        "mode": oct(member.mode),
        "uid": member.uid,
        "gid": member.gid,
    }
    if member.isreg():
        data = archive.extractfile(member)
        assert data is not None
        content = data.read()
        entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    elif member.issym():
        entry |= {"mode": "0o777", "link": member.linkname}
    if member.isreg() or member.issym():
        entry["mtime"] = int(member.mtime)
    return entry
