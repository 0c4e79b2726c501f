"""A Debian base, a registry, and the programs that read an image back.

The base is made once per machine and kept in ``.cache/debian`` (or ``$PYBUILD_TEST_CACHE/debian``): making it takes
about half a minute and a Debian mirror, which is reached as this machine's own apt reaches it.
``$PYBUILD_COMMAND`` says how the builder is called; by default it is this interpreter's ``-m pybuild``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[3]
EXAMPLE = PROJECT / "examples" / "debian-app"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(*argv: str | pathlib.Path, timeout: float = 240, env: dict[str, str] | None = None) -> str:
    """Standard output of a program that must succeed."""
    done = subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, timeout=timeout, env=env, check=False
    )
    assert done.returncode == 0, f"{shlex.join(str(w) for w in argv)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def root_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: mmdebstrap, owners and capabilities")


@pytest.fixture(scope="session")
def debian_layout(root_user: None) -> pathlib.Path:
    """An OCI layout with a minimal Debian as ``bookworm``, one layer."""
    cache = pathlib.Path(os.environ.get("PYBUILD_TEST_CACHE", PROJECT / ".cache")) / "debian"
    cache.mkdir(parents=True, exist_ok=True)
    layout = cache / "layout"
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once make it once
        if not (cache / "base.tar").exists():
            run(EXAMPLE / "make-base", cache / "base.tar", timeout=290)
        if not layout.exists():
            part = cache / "layout.part"
            shutil.rmtree(part, ignore_errors=True)
            image = f"{part}:bookworm"
            run("umoci", "init", "--layout", part)
            run("umoci", "new", "--image", image)
            run("umoci", "raw", "add-layer", "--image", image, cache / "base.tar")
            run("umoci", "config", "--image", image, "--config.cmd", "bash", "--config.env", PATH)
            run("umoci", "gc", "--layout", part)
            part.rename(layout)
    return layout


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``127.0.0.1:PORT`` of an empty docker-registry."""
    folder = tmp_path_factory.mktemp("registry")
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: info, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n"
    )
    log = folder / "log"
    with open(log, "wb") as writing, open(log, "rb") as reading, contextlib.ExitStack() as stack:
        process = subprocess.Popen(
            ["docker-registry", "serve", config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        assert process.stdout is not None
        address = next((m[1] for line in process.stdout if (m := re.search(rb"listening on ([\d.:]+)", line))), None)
        assert address, f"docker-registry did not start: {reading.read()!r}"
        # what it says from now on nobody reads: a full pipe would stop it
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=writing)
        stack.callback(drain.wait)
        yield address.decode()
        process.terminate()


@pytest.fixture(scope="session")
def debian(debian_layout: pathlib.Path, registry: str) -> str:
    """Reference of the Debian base in the registry."""
    reference = f"{registry}/debian:bookworm"
    run(
        "skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{debian_layout}:bookworm", f"docker://{reference}"
    )
    return reference


@dataclass(frozen=True)
class Builder:
    """Calls pybuild, its own files in ``home``."""

    command: tuple[str, ...]
    home: pathlib.Path

    def build(self, *flags: str) -> str:
        """Its output (both streams); it must succeed."""
        env = {**os.environ, "HOME": str(self.home), "TMPDIR": str(self.home)}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT / "src"), env.get("PYTHONPATH", "")]))
        done = subprocess.run(
            [*self.command, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
            env=env,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    command = shlex.split(os.environ.get("PYBUILD_COMMAND", "")) or [sys.executable, "-m", "pybuild"]
    return Builder(tuple(command), tmp_path_factory.mktemp("home"))


@dataclass(frozen=True)
class Podman:
    """Runs images of the registry, its storage in ``folder``."""

    folder: pathlib.Path
    driver: str

    def _argv(self, *words: str) -> list[str]:
        storage = ["--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run", "--tmpdir", f"{self.folder}/tmp"]
        engine = ["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
        return ["podman", *storage, "--storage-driver", self.driver, *engine, *words]

    def pull(self, reference: str) -> None:
        run(*self._argv("pull", "--quiet", "--tls-verify=false", reference))

    def run(self, reference: str, *words: str, options: tuple[str, ...] = ()) -> str:
        """Standard output of a container that must succeed."""
        limits = ("--ulimit", "nofile=20000:20000", "--ulimit", "nproc=1000:1000")
        return run(*self._argv("run", "--rm", "--network", "none", *limits, *options, reference, *words))


@pytest.fixture(scope="session")
def podman(root_user: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    folder = tmp_path_factory.mktemp("podman")
    # overlay cannot lie on overlay, which is what a container's own filesystem usually is
    on_overlay = run("stat", "--file-system", "--format", "%T", folder).strip() == "overlayfs"
    yield Podman(folder, "vfs" if on_overlay else "overlay")
    if os.path.ismount(folder / "root" / "overlay"):
        run("umount", "-R", "-l", folder / "root" / "overlay")
