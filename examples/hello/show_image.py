#!/usr/bin/env python3
"""Shows an image of an OCI layout and runs it: show_image.py LAYOUT [ARGUMENT ...]

Prints the digest, the layers with their sizes, and the place; then unpacks the image into a temporary directory and runs its
command there, the way a RUN step runs: in namespaces of its own where that is permitted, else in a chroot. No container engine
is needed, and nothing remains.
"""

import os
import pathlib
import sys
from dataclasses import replace

from pybuild._native.index import Index
from pybuild._native.untar import Extractor
from pybuild.errors import PybuildError
from pybuild.oci.image import Image
from pybuild.oci.layout import open_blob, read_image
from pybuild.oci.platform import host_platform
from pybuild.report.human import size
from pybuild.rootfs.cleanup import work_directory
from pybuild.rootfs.extract import extract_layer
from pybuild.rootfs.isolation import choose
from pybuild.rootfs.run import RunSpec, run
from pybuild.rootfs.users import resolve_user


def show(layout: str, image: Image) -> None:
    print(f"image   {image.digest}")
    for number, layer in enumerate(image.layers, 1):
        print(f"layer {number} {layer.digest}  {size(layer.size)}")
    print(f"layout  {os.path.abspath(layout)}")


def unpack(layout: str, image: Image, root: str) -> None:
    """All layers, verified, below ``root``."""
    index = Index()
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
            extractor = Extractor(index, fd, owners=os.geteuid() == 0, devices=os.geteuid() == 0)
            with open_blob(layout, layer) as source:
                extract_layer(source, layer.media_type, diff_id, extractor)
    finally:
        os.close(fd)


def run_image(image: Image, root: str, arguments: list[str]) -> int:
    """Run what the image's config says, its output on ours. The command's exit status."""
    section = image.config.section
    etc = pathlib.Path(root, "etc")
    user = resolve_user(section.get("User") or "", (etc / "passwd").read_bytes(), (etc / "group").read_bytes())
    argv = (*(section.get("Entrypoint") or ()), *(arguments or section.get("Cmd") or ()))
    env = {"HOME": user.home, **dict(text.split("=", 1) for text in section.get("Env") or ())}
    isolation = choose("auto")
    print(f"run     {' '.join(argv)}   ({isolation.name}: {isolation.reason})", flush=True)
    if isolation.single_id and user.uid:
        print(f"        as uid 0 of its own namespace: {section['User']} would need subordinate ids", flush=True)
        user = replace(user, uid=0, gid=0, groups=())
    spec = RunSpec(root=root, argv=argv, env=env, cwd=section.get("WorkingDir") or "/", user=user)
    result = run(spec, isolation, output=lambda stream, data: os.write(stream, data) and None)
    return result.exit_code


def main(layout: str, *arguments: str) -> int:
    try:
        image = read_image(layout, "", host_platform())
        show(layout, image)
        with work_directory() as directory:
            root = os.path.join(directory, "root")
            os.mkdir(root, 0o755)
            unpack(layout, image, root)
            return run_image(image, root, list(arguments))
    except PybuildError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    sys.exit(main(*sys.argv[1:]))
