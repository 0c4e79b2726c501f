"""Whole builds by the command: a real registry on loopback, a base made of busybox, the installed program."""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """A finished run of the program."""

    code: int
    out: str
    err: str

    @property
    def error_line(self) -> str:
        """The one line that tells what went wrong."""
        lines = [line for line in self.err.splitlines() if "error" in line.lower()]
        return lines[-1] if lines else self.err


@dataclass(frozen=True)
class Program:
    """The command under test. Its temporary files go to ``tmp``, so that a test sees what it leaves behind."""

    tmp: pathlib.Path

    def environment(self, **more: str) -> dict[str, str]:
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("KANIKO_", "DOCKER_", "PYBUILD_"))}
        return {**keep, "TMPDIR": str(self.tmp), "HOME": str(self.tmp), **more}

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "pybuild", "--force", "--log-format=text", *args]

    def run(self, *args: str, timeout: float = 120, **env: str) -> Ended:
        done = subprocess.run(
            self.command(*args), capture_output=True, text=True, errors="replace", timeout=timeout, env=self.environment(**env), check=False
        )
        assert "Traceback (most recent call last)" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    def start(self, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*args),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=self.environment(**env),
            start_new_session=True,
        )

    def left_behind(self) -> list[str]:
        """What is in the temporary directory that a build should have removed."""
        return sorted(str(p.relative_to(self.tmp)) for p in self.tmp.rglob("*") if not p.is_dir())


@pytest.fixture
def program(tmp_path: pathlib.Path) -> Program:
    tmp = tmp_path / "tmp"
    tmp.mkdir()
    return Program(tmp)


@pytest.fixture
def context(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "context"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def base_layout(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An OCI layout with busybox and its applets, made by the example's own script."""
    out = tmp_path_factory.mktemp("base") / "layout"
    subprocess.run([sys.executable, str(ROOT / "examples" / "hello" / "make_base.py"), str(out)], check=True, stdout=subprocess.DEVNULL)
    return out


@dataclass(frozen=True)
class RegistryProcess:
    host: str
    storage: pathlib.Path


def wait_until(ready: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Poll until something that another process does has happened."""
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, f"{what} did not happen within {seconds} s"
        time.sleep(0.01)


@contextlib.contextmanager
def serve_registry(storage: pathlib.Path, more: str = "", headers: dict[str, str] | None = None) -> Iterator[RegistryProcess]:
    binary = shutil.which("docker-registry")
    if binary is None:
        pytest.skip("docker-registry is not installed")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    config = storage / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {storage}/data}}, delete: {{enabled: true}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{more}"
    )
    process = subprocess.Popen([binary, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/v2/", headers=headers or {})
            return connection.getresponse().status in (200, 401)
        except OSError:
            assert process.poll() is None, "docker-registry did not start"
            return False

    try:
        wait_until(answers, "an answer of docker-registry")
        yield RegistryProcess(f"127.0.0.1:{port}", storage)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with serve_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def base_reference(registry: RegistryProcess, base_layout: pathlib.Path) -> str:
    """The base, pushed to the registry by skopeo."""
    reference = f"{registry.host}/test/base:1"
    subprocess.run(
        ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{base_layout}", f"docker://{reference}"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return reference
