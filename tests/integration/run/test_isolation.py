"""The choice of a backend, and steps in user namespaces: as root with few capabilities, and as an ordinary user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pybuild._native import spawn
from pybuild.errors import IsolationError
from pybuild.rootfs.isolation import choose, identity_map

from .support import Box, listing

pytestmark = pytest.mark.root

DOCKER = "+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,+setuid,+setfcap,+setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write"

STEP = """
import json, sys
from pybuild.rootfs.isolation import choose
from pybuild.rootfs.run import RunMount, RunSpec, run
from pybuild._native import spawn
spawn.set_dumpable(False)
found = choose(sys.argv[1])
written = {1: b"", 2: b""}
def output(stream, data):
    written[stream] += data
mounts = (RunMount("tmpfs", "/t"), RunMount("secret", "/run/s", data=b"hunter2"), RunMount("bind", "/b", sys.argv[3]))
result = run(RunSpec(root=sys.argv[2], argv=("/bin/sh", "-c", sys.argv[4]), env={"PATH": "/bin"}, mounts=mounts), found, output=output)
print(json.dumps([found.name, found.user_namespace, found.single_id, result.exit_code, written[1].decode(), written[2].decode()]))
"""


def step(
    arguments: list[str], root: Path, script: str, prefix: list[str], python: str = sys.executable
) -> list[object]:
    import json

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    source = root.parent / "source"
    source.mkdir(exist_ok=True)
    (source / "a").write_text("a\n")
    if prefix and "--reuid=1000" in prefix:
        os.chown(source, 1000, 1000)
    done = subprocess.run(
        [*prefix, python, "-c", STEP, *arguments, str(root), str(source), script],
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout)
    return found


def test_root_needs_no_user_namespace() -> None:
    found = choose("auto")
    assert (found.name, found.user_namespace, found.new_proc) == ("namespaces", False, True)
    assert choose("chroot").name == "chroot"
    with pytest.raises(IsolationError, match="in-place"):
        choose("in-place")


def test_probes_leave_nothing(tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_bytes()
    descriptors = sorted(os.listdir("/proc/self/fd"))
    assert spawn.probe(str(tmp_path))[0]
    uid_map, gid_map = identity_map("/proc/self/uid_map"), identity_map("/proc/self/gid_map")
    assert spawn.probe(str(tmp_path), user_namespace=True, uid_map=uid_map, gid_map=gid_map)[0]
    works, _, _, error = spawn.probe(str(tmp_path), user_namespace=True, uid_map=b"no map", gid_map=b"")
    assert (works, error) == (False, 22)
    assert Path("/proc/self/mountinfo").read_bytes() == before
    assert sorted(os.listdir("/proc/self/fd")) == descriptors
    assert os.listdir(tmp_path) == []


SCRIPT = (
    "id -u; echo x > /dev/null && head -c2 /dev/zero | wc -c; ls /proc/self/status; cat /run/s; echo;"
    "echo n > /b/n && cat /b/a; touch /t/x; ls /sys | grep -c kernel; touch /made"
)


def test_default_capabilities_of_a_container(box: Box) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    before = listing(box.root)
    prefix = ["setpriv", f"--bounding-set=-all,{DOCKER}", "--inh-caps=-all"]
    name, user_namespace, single, code, out, err = step(
        ["auto"], box.root, SCRIPT + "; chown 5:6 /made; stat -c '%u %g' /made", prefix
    )
    assert (name, user_namespace, single, code, err) == ("namespaces", True, False, 0, "")
    assert isinstance(out, str)
    assert out.split() == ["0", "2", "/proc/self/status", "hunter2", "a", "1", "5", "6"]
    after = listing(box.root)
    made = after.pop("made")
    assert made[1] == 5
    assert {k: v for k, v in after.items() if k != "."} == {k: v for k, v in before.items() if k != "."}


def test_ordinary_user(tmp_path: Path, template: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    # a directory that the user may enter, unlike pytest's own
    base = Path("/tmp") / f"pybuild-test-user-{os.getpid()}"
    base.mkdir(mode=0o755)
    try:
        root = base / "root"
        subprocess.run(["cp", "-a", str(template), str(root)], check=True)
        subprocess.run(["chown", "-R", "1000:1000", str(base)], check=True)
        python = python_for_everybody()
        prefix = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=-all"]
        name, user_namespace, single, code, out, err = step(
            ["auto"], root, SCRIPT + "; chown 5:6 /made", prefix, python
        )
        assert (name, user_namespace, single, code) == ("namespaces", True, True, 1)
        assert isinstance(out, str)
        assert isinstance(err, str)
        assert out.split() == ["0", "2", "/proc/self/status", "hunter2", "a", "1"]
        assert "Invalid argument" in err
        assert (root / "made").stat().st_uid == 1000
    finally:
        shutil.rmtree(base)


def python_for_everybody() -> str:
    """This version's interpreter at a place that an ordinary user may enter."""
    name = f"python3.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        if not os.path.exists(candidate):
            continue
        test = subprocess.run(
            ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", candidate, "-c", "pass"],
            capture_output=True,
            cwd="/",
        )
        if test.returncode == 0:
            return candidate
    pytest.skip("no interpreter of this version that an ordinary user may run")
