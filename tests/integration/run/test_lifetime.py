"""What is left when the builder itself is ended in the hardest way, and what each step costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.rootfs.isolation import Isolation

from .support import Box

pytestmark = pytest.mark.root

BUILDER = """
import sys
from pybuild.rootfs.isolation import Isolation, choose
from pybuild.rootfs.cleanup import work_directory
from pybuild.rootfs.run import RunSpec, run
import shutil
with work_directory(sys.argv[2]) as path:
    shutil.copytree(sys.argv[1], path + "/root", symlinks=True)
    spec = RunSpec(root=path + "/root", argv=("/bin/sh", "-c", sys.argv[3]), env={"PATH": "/bin"})
    run(spec, choose(sys.argv[4]), output=lambda s, d: (sys.stdout.buffer.write(d), sys.stdout.buffer.flush()))
"""


def builder(root: Path, base: Path, script: str, isolation: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(root), str(base), script, isolation],
        stdout=subprocess.PIPE,
        env=environment,
    )


def with_argument(text: str) -> list[int]:
    """Processes that have the text among their arguments."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if text.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found


def until(condition: Callable[[], bool], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


@pytest.mark.parametrize("isolation", ["namespaces", "chroot"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_the_builder(template: Path, tmp_path: Path, number: signal.Signals, isolation: str) -> None:
    mark = f"9{os.getpid():07d}"
    script = f"(setsid sleep {mark} &) ; trap '' TERM HUP INT; sleep {mark} & echo begun; wait"
    process = builder(template, tmp_path / "base", script, isolation)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    mounts = Path("/proc/self/mountinfo").read_bytes()
    assert until(lambda: len(with_argument(f"sleep\0{mark}")) == 2)
    process.send_signal(number)
    process.wait()
    process.stdout.close()
    assert until(lambda: not with_argument(mark)), "processes are left"
    assert Path("/proc/self/mountinfo").read_bytes() == mounts
    left = os.listdir(tmp_path / "base")
    assert len(left) == 1
    # the next build in the same place takes it away
    after = builder(template, tmp_path / "base", "echo again", isolation)
    assert after.communicate()[0] == b"again\n"
    assert after.returncode == 0
    assert os.listdir(tmp_path / "base") == []


def test_a_killed_server_ends_its_steps_and_is_replaced(box: Box) -> None:
    """Not even the process that starts the commands is needed for them to end, and the next step works."""
    box.sh("true")
    ours = [p for p in children(os.getpid()) if Path(f"/proc/{p}/comm").read_text() == "pybuild-run\n"]
    assert len(ours) == 1

    def output(stream: int, data: bytes) -> None:
        os.kill(ours[0], signal.SIGKILL)

    from pybuild.rootfs.run import RunSpec, run

    mark = f"8{os.getpid():07d}"
    result = run(
        RunSpec(root=str(box.root), argv=("/bin/sh", "-c", f"echo x; sleep {mark}"), env=box.env),
        box.isolation,
        output=output,
    )
    assert result.signal == signal.SIGKILL
    assert not with_argument(mark)
    assert box.sh("echo works").out == "works\n"


def children(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(name))
            except OSError:
                continue
    return found


def test_the_server_has_nothing_of_the_builder() -> None:
    secret = os.urandom(16).hex().encode()
    held = subprocess.run(
        [sys.executable, "-c", HOLDER],
        input=secret,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert held.stdout.split() == [b"0", b"True", b"True"], held.stderr.decode()


HOLDER = """
import os, sys, time
from pybuild._native import spawn
secret = sys.stdin.buffer.read()
kept = [secret * n for n in range(1, 2000)]
spawn.prepare()
me, found, sizes = os.getpid(), 0, 0
for pid in os.listdir('/proc'):
    if pid.isdigit() and int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1]) == me:
        # it is ready when it waits for requests
        for _ in range(500):
            if 'poll' in open(f'/proc/{pid}/wchan').read():
                break
            time.sleep(0.01)
        with open(f'/proc/{pid}/mem', 'rb', 0) as memory:
            for line in open(f'/proc/{pid}/maps'):
                start, end = (int(x, 16) for x in line.split()[0].split('-'))
                try:
                    memory.seek(start)
                    data = memory.read(end - start)
                except (OSError, OverflowError, ValueError):
                    continue
                sizes += len(data)
                found += data.count(secret)
        print(found, sizes > 0, 'python' not in open(f'/proc/{pid}/cmdline').read())
"""


THREAD = """
import sys, threading
from pybuild.rootfs.isolation import choose
from pybuild.rootfs.run import RunSpec, run
spec = RunSpec(root=sys.argv[1], argv=("/bin/sh", "-c", "exit 5"), env={"PATH": "/bin"})
codes = []
def one():
    codes.append(run(spec, choose("namespaces"), output=lambda s, d: None).exit_code)
for _ in range(2):
    thread = threading.Thread(target=one)
    thread.start()
    thread.join()
print(codes)
"""


def test_server_started_in_a_thread_that_ends(box: Box) -> None:
    """The first step may come from a worker thread; the thread's stack is not the server's."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", THREAD, str(box.root)], capture_output=True, text=True, env=environment
        )
        assert done.stdout == "[5, 5]\n", done.stderr


def test_cost_does_not_grow_with_the_builder(make_box: Callable[[Isolation], Box], namespaces: Isolation) -> None:
    box = make_box(namespaces)
    box.run("/bin/true")
    ballast = bytearray(200 << 20)
    for i in range(0, len(ballast), 4096):
        ballast[i] = 1
    costs = []
    for _ in range(15):
        begin = time.perf_counter()
        box.run("/bin/true")
        costs.append(time.perf_counter() - begin)
    assert sorted(costs)[len(costs) // 2] < 0.02, "about 3 ms are normal"
