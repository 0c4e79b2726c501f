#!/usr/bin/env python3
"""Makes a small base image as an OCI layout: make_base.py OUT_DIR [BUSYBOX]

The image is this machine's static busybox (Debian: apt-get install busybox-static) with its commands, the usual directories and
two users. Everything in it is fixed, times included: the same busybox always gives the same digest, which is printed.
"""

import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile

TIME = 1_700_000_000
ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
}
DIRECTORIES = {
    "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o555, "root": 0o700, "run": 0o755, "sys": 0o555, "tmp": 0o1777,
    "usr": 0o755, "usr/bin": 0o755, "usr/lib": 0o755, "usr/local": 0o755, "usr/local/bin": 0o755, "var": 0o755, "var/log": 0o755,
}  # fmt: skip
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/os-release": 'ID=busybox\nNAME="busybox"\n',
}


def find_busybox() -> str:
    for path in ("/bin/busybox", "/usr/bin/busybox", shutil.which("busybox") or ""):
        if path and os.path.exists(path):
            return path
    raise SystemExit("busybox is not installed (Debian: apt-get install busybox-static)")


def layer(busybox: str) -> bytes:
    """The root filesystem as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:

        def add(name: str, mode: int, kind: bytes, data: bytes = b"", link: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.mode, info.type, info.linkname, info.size, info.mtime = mode, kind, link, len(data), TIME
            tar.addfile(info, io.BytesIO(data))

        for name, mode in DIRECTORIES.items():
            add(name, mode, tarfile.DIRTYPE)
        with open(busybox, "rb") as f:
            add("bin/busybox", 0o755, tarfile.REGTYPE, f.read())
        commands = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
        for name in sorted({*commands} - {"busybox"}):
            add(f"bin/{name}", 0o777, tarfile.SYMTYPE, link="busybox")
        for name, text in FILES.items():
            add(name, 0o644, tarfile.REGTYPE, text.encode())
    return out.getvalue()


def main(out: str, busybox: str = "") -> None:
    blobs = os.path.join(out, "blobs", "sha256")
    os.makedirs(blobs, exist_ok=True)

    def put(data: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as f:
            f.write(data)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{digest}", "size": len(data)}

    tar = layer(busybox or find_busybox())
    machine = platform.machine()
    config = {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}"]},
        "history": [{"created": "2023-11-14T22:13:20Z", "created_by": "busybox and its commands"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": [put(gzip.compress(tar, mtime=0), "layer.v1.tar+gzip")],
    }
    described = put(json.dumps(manifest).encode(), "manifest.v1+json")
    with open(os.path.join(out, "oci-layout"), "w") as f:
        f.write('{"imageLayoutVersion": "1.0.0"}')
    with open(os.path.join(out, "index.json"), "w") as f:
        json.dump({"schemaVersion": 2, "manifests": [described]}, f)
    print(described["digest"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
