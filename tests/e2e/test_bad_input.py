"""Wrong input and broken surroundings: one clear error, the right exit status, nothing left behind."""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator

import pytest

from .conftest import Program, RegistryProcess, serve_registry, wait_until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts or namespaces")


def write(context: pathlib.Path, text: str) -> list[str]:
    (context / "Dockerfile").write_text(text)
    return ["--context", str(context), "--dockerfile", str(context / "Dockerfile")]


def base_args(base_layout: pathlib.Path) -> list[str]:
    return ["--build-context", f"base=oci-layout://{base_layout}"]


def test_no_dockerfile(program: Program, context: pathlib.Path) -> None:
    ended = program.run("--context", str(context), "--no-push")
    assert ended.code == 1
    assert "please provide a valid path to a Dockerfile within the build context with --dockerfile" in ended.err


def test_context_that_is_missing(program: Program, context: pathlib.Path) -> None:
    args = write(context, "FROM scratch\nCOPY a /a\n")
    ended = program.run("--context", str(context / "nowhere"), *args[2:], "--no-push")
    assert ended.code == 1
    assert "nowhere" in ended.error_line


def test_empty_context(program: Program, tmp_path: pathlib.Path, context: pathlib.Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY app.py /app.py\n")
    ended = program.run("--context", str(context), "--dockerfile", str(dockerfile), "--no-push")
    assert ended.code == 1
    assert "app.py" in ended.err
    assert "Dockerfile:2" in ended.err
    assert program.left_behind() == []


def test_destination_is_needed(program: Program, context: pathlib.Path) -> None:
    ended = program.run(*write(context, "FROM scratch\n"))
    assert ended.code == 1
    assert "you must provide --destination, or use --no-push" in ended.err


def test_unknown_flag_names_the_nearest(program: Program) -> None:
    ended = program.run("--destinaton=x")
    assert ended.code == 1
    assert "unknown flag: --destinaton" in ended.err
    assert "--destination" in ended.err


def test_unknown_base(program: Program, context: pathlib.Path, registry: RegistryProcess) -> None:
    ended = program.run(*write(context, f"FROM {registry.host}/no/such:1\nRUN true\n"), "--no-push")
    assert ended.code == 1
    assert f"{registry.host}/no/such:1" in ended.err
    assert program.left_behind() == []


def test_unreachable_registry(program: Program, context: pathlib.Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{s.getsockname()[1]}"
        ended = program.run(*write(context, f"FROM {host}/base:1\nRUN true\n"), "--no-push")
    assert ended.code == 1
    assert host in ended.err


def test_wrong_credentials(program: Program, context: pathlib.Path, tmp_path: pathlib.Path) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    passwords = subprocess.run(["htpasswd", "-Bbn", "right", "secret-one"], capture_output=True, text=True, check=True).stdout
    (storage / "htpasswd").write_text(passwords)
    with serve_registry(storage, f"auth: {{htpasswd: {{realm: test, path: {storage}/htpasswd}}}}\n") as registry:
        config = tmp_path / "docker"
        config.mkdir()
        (config / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": "cmlnaHQ6d3Jvbmctb25l"}}}))
        args = write(context, "FROM scratch\nCOPY Dockerfile /d\n")
        ended = program.run(*args, "--destination", f"{registry.host}/x:1", DOCKER_CONFIG=str(config))
        assert ended.code == 1
        assert "error checking push permissions" in ended.err
        assert registry.host in ended.err
        assert "wrong-one" not in ended.err + ended.out
        assert "cmlnaHQ6" not in ended.err + ended.out


@pytest.fixture
def tls_server(tmp_path: pathlib.Path) -> Iterator[str]:
    """A server with a certificate that nobody signed."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    wrap = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    wrap.load_cert_chain(cert, key)
    server.socket = wrap.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_refused_tls(program: Program, context: pathlib.Path, tls_server: str) -> None:
    ended = program.run(*write(context, "FROM scratch\nCOPY Dockerfile /d\n"), "--destination", f"{tls_server}/x:1")
    assert ended.code == 1
    assert "certificate" in ended.err.lower()
    assert tls_server in ended.err


def damage(layout: pathlib.Path, out: pathlib.Path, change: str) -> pathlib.Path:
    """A copy of a layout whose largest blob is truncated or has other bytes."""
    subprocess.run(["cp", "-a", str(layout), str(out)], check=True)
    blob = max((out / "blobs" / "sha256").iterdir(), key=lambda p: p.stat().st_size)
    data = blob.read_bytes()
    blob.chmod(0o644)
    middle = len(data) // 2
    blob.write_bytes(data[:middle] if change == "truncated" else data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :])
    return out


@pytest.mark.parametrize("change", ["truncated", "altered"])
def test_damaged_layout(program: Program, context: pathlib.Path, base_layout: pathlib.Path, tmp_path: pathlib.Path, change: str) -> None:
    bad = damage(base_layout, tmp_path / "bad", change)
    out = tmp_path / "out"
    args = write(context, "FROM base\nWORKDIR /x\n")
    ended = program.run(*args, *base_args(bad), "--no-push", "--oci-layout-path", str(out))
    assert ended.code == 1
    assert "sha256:" in ended.err
    assert not out.exists()
    assert program.left_behind() == []


@pytest.mark.parametrize("change", ["truncated", "altered"])
def test_damaged_blob_in_a_registry(
    program: Program, context: pathlib.Path, base_layout: pathlib.Path, tmp_path: pathlib.Path, change: str
) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    with serve_registry(storage) as registry:
        reference = f"{registry.host}/base:1"
        subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{base_layout}", f"docker://{reference}"], check=True)
        blob = max((storage / "data").rglob("data"), key=lambda p: p.stat().st_size)
        data = blob.read_bytes()
        middle = len(data) // 2
        blob.write_bytes(data[:middle] if change == "truncated" else data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :])
        ended = program.run(*write(context, f"FROM {reference}\nWORKDIR /x\n"), "--no-push", "--oci-layout-path", str(tmp_path / "out"))
    assert ended.code == 1
    assert "sha256:" in ended.err
    assert not (tmp_path / "out").exists()
    assert program.left_behind() == []


@needs_root
def test_full_disk(program: Program, context: pathlib.Path, base_layout: pathlib.Path, tmp_path: pathlib.Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], check=True)
    try:
        args = write(context, "FROM base\nRUN head -c 64m /dev/urandom > /big\n")
        out = tmp_path / "out"
        ended = Program(small).run(*args, *base_args(base_layout), "--no-push", "--oci-layout-path", str(out))
        assert ended.code not in (0, 2)
        assert "space" in ended.err.lower()
        assert not out.exists()
        assert Program(small).left_behind() == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@needs_root
def test_full_disk_for_the_output(program: Program, context: pathlib.Path, tmp_path: pathlib.Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    (context / "big").write_bytes(os.urandom(16 << 20))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], check=True)
    try:
        args = write(context, "FROM scratch\nCOPY big /big\n")
        ended = program.run(*args, "--no-push", "--oci-layout-path", str(small / "out"), "--tar-path", str(small / "image.tar"))
        assert ended.code == 1
        assert "space" in ended.err.lower()
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@needs_root
def test_failing_run_has_the_commands_status(program: Program, context: pathlib.Path, base_layout: pathlib.Path) -> None:
    ended = program.run(*write(context, "FROM base\nRUN echo about to fail; exit 7\n"), *base_args(base_layout), "--no-push")
    assert ended.code == 7
    assert "Dockerfile:2" in ended.err
    assert "exit status 7" in ended.err
    assert "about to fail" in ended.err
    assert program.left_behind() == []


@needs_root
def test_run_ended_by_a_signal(program: Program, context: pathlib.Path, base_layout: pathlib.Path) -> None:
    ended = program.run(*write(context, 'FROM base\nRUN sh -c "kill -TERM \\$\\$"\n'), *base_args(base_layout), "--no-push")
    assert ended.code in (128 + signal.SIGTERM, 143)
    assert program.left_behind() == []


def mounts() -> list[str]:
    return pathlib.Path("/proc/self/mountinfo").read_text().splitlines()


@needs_root
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_in_a_run(
    program: Program, context: pathlib.Path, base_layout: pathlib.Path, tmp_path: pathlib.Path, signum: signal.Signals
) -> None:
    before = mounts()
    mark = f"mark-{os.getpid()}-{signum}"
    args = write(context, f"FROM base\nRUN echo started {mark}; (sleep 3600.{signum} &) ; sleep 3600.{signum}\n")
    process = program.start(*args, *base_args(base_layout), "--no-push", "--oci-layout-path", str(tmp_path / "out"))
    assert process.stdout is not None
    for line in process.stdout:
        if f"started {mark}" in line:
            break
    process.send_signal(signum)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + signum
    assert "Traceback" not in err
    assert program.left_behind() == []
    assert not (tmp_path / "out").exists()
    assert mounts() == before
    assert f"3600.{int(signum)}" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


@needs_root
def test_killed_builder_takes_its_steps_along(program: Program, context: pathlib.Path, base_layout: pathlib.Path) -> None:
    before = mounts()
    args = write(context, "FROM base\nRUN echo started; sleep 3611\n")
    process = program.start(*args, *base_args(base_layout), "--no-push")
    assert process.stdout is not None
    for line in process.stdout:
        if "started" in line:
            break
    process.kill()
    process.communicate(timeout=20)
    wait_until(
        lambda: "sleep 3611" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout,
        "the end of the step",
    )
    assert mounts() == before
    # the next build removes what the killed one left
    ended = program.run(*write(context, "FROM base\nRUN true\n"), *base_args(base_layout), "--no-push")
    assert ended.code == 0
    assert program.left_behind() == []


class Stalling(http.server.BaseHTTPRequestHandler):
    """A registry that answers up to a point and then says nothing more."""

    protocol_version = "HTTP/1.1"
    reached: threading.Event

    def do_GET(self) -> None:
        if self.path == "/v2/":
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.reached.set()
        self.rfile.read(1)

    do_HEAD = do_GET
    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("phase", ["pull", "push"])
def test_interrupted_while_it_waits_for_a_registry(program: Program, context: pathlib.Path, phase: str) -> None:
    reached = threading.Event()
    handler = type("Handler", (Stalling,), {"reached": reached})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_address[1]}"
    try:
        if phase == "pull":
            args = [*write(context, f"FROM {host}/base:1\nRUN true\n"), "--no-push"]
        else:
            args = [*write(context, "FROM scratch\nCOPY Dockerfile /d\n"), "--destination", f"{host}/x:1"]
        process = program.start(*args)
        assert reached.wait(30)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in err
        assert program.left_behind() == []
    finally:
        server.shutdown()
        server.server_close()
