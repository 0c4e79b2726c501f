"""What a RUN command sees and how its end is told."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from pybuild.errors import IsolationError, RunError
from pybuild.rootfs.isolation import Isolation
from pybuild.rootfs.mounts import RunMount
from pybuild.rootfs.users import User, resolve_user

from .support import Box, listing

pytestmark = pytest.mark.root


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_status(box: Box, code: int) -> None:
    ran = box.sh(f"exit {code}")
    assert (ran.code, ran.result.signal) == (code, None)


@pytest.mark.parametrize("number", [9, 11, 15])
def test_signal(box: Box, number: int) -> None:
    ran = box.sh(f"kill -{number} $$; sleep 10")
    assert (ran.result.signal, ran.code) == (number, 128 + number)


def test_output_is_kept_apart_and_the_tail_is_the_end(box: Box) -> None:
    ran = box.sh("echo out; echo err >&2; exit 3")
    assert (ran.out, ran.err) == ("out\n", "err\n")
    assert set(ran.result.tail.split()) == {b"out", b"err"}


def test_much_output(box: Box) -> None:
    ran = box.sh("dd if=/dev/zero bs=65536 count=320 2>/dev/null | tr '\\0' x; echo end")
    assert len(ran.out) == 320 * 65536 + 4
    assert ran.result.tail.endswith(b"xend\n")
    assert len(ran.result.tail) <= 16 * 1024


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (("nothing-like-it",), 127, '"nothing-like-it": executable file not found in $PATH'),
        (("/no/such/file",), 127, "exec /no/such/file: no such file or directory"),
        (("/etc/passwd",), 126, "exec /etc/passwd: permission denied"),
        (("/bad-format",), 126, "exec /bad-format: exec format error"),
        (("/bad-interpreter",), 127, "exec /bad-interpreter: no such file or directory"),
        (("bad-interpreter-in-path",), 127, "executable file not found in $PATH"),
    ],
)
def test_commands_that_cannot_be_executed(box: Box, argv: tuple[str, ...], code: int, text: str) -> None:
    for name, contents in (
        ("bad-format", "no program\n"),
        ("bad-interpreter", "#!/not/there\n"),
        ("bin/bad-interpreter-in-path", "#!/n\n"),
    ):
        (box.root / name).write_text(contents)
        (box.root / name).chmod(0o755)
    ran = box.run(*argv)
    assert ran.code == code
    assert text in ran.err
    assert ran.result.tail.decode() == ran.err


def test_command_is_looked_up_in_the_path_of_the_environment(box: Box) -> None:
    (box.root / "opt").mkdir()
    (box.root / "opt/busybox").symlink_to("/bin/busybox")
    assert box.run("busybox", "echo", "hi", env={"PATH": "/nowhere:/opt"}).out == "hi\n"
    assert box.run("busybox", "echo", "hi", env={}).code == 127


def test_nothing_of_the_builders_environment(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDER_TOKEN", "hunter2")
    ran = box.sh("env; cat /proc/1/environ /proc/1/cmdline /proc/1/maps", env={"PATH": "/bin", "A": "b c", "EMPTY": ""})
    assert "hunter2" not in ran.out
    assert "python" not in ran.out
    assert {"PATH=/bin", "A=b c", "EMPTY="} <= set(ran.out.splitlines())
    assert "/proc/1/environ" in ran.err, "init's environment is not readable"


def test_bytes_that_are_no_text_survive(box: Box) -> None:
    value = os.fsdecode(b"\xff\xfe")
    ran = box.sh('printf %s "$RAW" | od -An -tx1', env={"PATH": "/bin", "RAW": value})
    assert ran.out.split() == ["ff", "fe"]


def test_only_three_descriptors(box: Box) -> None:
    # ls itself has one open for the directory
    assert box.run("ls", "/proc/self/fd").out.split() == ["0", "1", "2", "3"]
    assert box.run("readlink", "/proc/self/fd/0").out == "/dev/null\n"
    assert box.sh("cat; wc -c").out == "0\n"


def test_descriptors_here_stay_the_same(box: Box) -> None:
    box.sh("true")
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        box.sh("echo x")
        box.run("/not/there")
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_user_with_supplementary_groups(box: Box) -> None:
    user = resolve_user("app", (box.root / "etc/passwd").read_bytes(), (box.root / "etc/group").read_bytes())
    ran = box.sh("id -u; id -g; id -G; touch /tmp/x || echo refused", user=user)
    assert ran.out.splitlines() == ["1000", "1000", "1000 50", "refused"]


def test_a_user_can_write_to_dev_stdout(box: Box) -> None:
    ran = box.sh("echo a > /dev/stdout; echo b > /dev/stderr; echo c > /proc/self/fd/1", user=User(1000, 1000, (1000,)))
    assert (ran.code, ran.out, ran.err) == (0, "a\nc\n", "b\n")


def test_setuid_programs_work_and_capabilities_are_dockers(box: Box) -> None:
    suid = box.root / "bin/suid-busybox"
    suid.write_bytes((box.root / "bin/busybox").read_bytes())
    suid.chmod(0o4755)
    ran = box.sh(
        "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; suid-busybox id -u", user=User(1000, 1000, (1000,))
    )
    assert "CapEff:\t0000000000000000" in ran.out
    assert "CapBnd:\t00000000a80425fb" in ran.out
    assert "NoNewPrivs:\t0" in ran.out
    assert "CapEff:\t00000000a80425fb" in box.sh("grep CapEff /proc/self/status").out


def test_working_directory(box: Box) -> None:
    (box.root / "w").symlink_to("/tmp")
    assert box.sh("pwd -P", cwd="/w").out == "/tmp\n"
    assert box.sh("pwd", cwd="/made/by/run").out == "/made/by/run\n"
    assert (box.root / "made/by/run").is_dir()
    with pytest.raises(RunError, match="/etc/passwd cannot be entered: Not a directory"):
        box.sh("true", cwd="/etc/passwd")


@pytest.mark.parametrize(
    "cwd", ["/proc/self/fd/6", "/proc/self/fd/3", "/proc/1/cwd", "/proc/1/root/../../..", "/../../.."]
)
def test_a_working_directory_leads_nowhere_outside(box: Box, cwd: str) -> None:
    try:
        ran = box.sh("ls -d bin/busybox ../bin/busybox; ls", cwd=cwd)
    except RunError:
        return
    assert set(ran.out.split()) <= {"bin/busybox", "../bin/busybox", *os.listdir(box.root)}


def test_umask_and_signals(box: Box) -> None:
    assert box.sh("umask; yes | head -n1").out.split() == ["0022", "y"]
    zero = "0" * 16
    assert box.run("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status").out.split() == ["SigBlk:", zero, "SigIgn:", zero]


def test_standard_places_are_there_and_leave_nothing(box: Box) -> None:
    for name in ("dev", "proc", "sys"):
        (box.root / name).rmdir()
    before = listing(box.root)
    ran = box.sh(
        "test -r /proc/self/status && test -d /sys/class && echo x > /dev/null && head -c4 /dev/urandom | wc -c;"
        "ls /dev; test -L /dev/fd && test -w /dev/shm && test -c /dev/ptmx && mount | grep -c ' on /dev/pts '; cat /etc/hosts; hostname"
    )
    assert ran.err == ""
    words = ran.out.split()
    assert {
        "null",
        "zero",
        "full",
        "random",
        "urandom",
        "tty",
        "stdin",
        "stdout",
        "stderr",
        "pts",
        "buildkitsandbox",
    } <= set(words)
    assert listing(box.root) == before
    assert set(ran.result.touched) == {
        "dev",
        "proc",
        "sys",
        "etc/hosts",
        *(["etc/resolv.conf"] if os.path.exists("/etc/resolv.conf") else []),
    }


def test_a_change_beside_a_mount_point_keeps_its_time(box: Box) -> None:
    """The removal of a mount point must not hide that the step changed the directory."""
    old = 1_500_000_000
    os.utime(box.root / "etc", (old, old))
    box.sh("true")
    assert (box.root / "etc").stat().st_mtime == old
    box.sh("echo x > /etc/new")
    assert (box.root / "etc").stat().st_mtime > old + 1000
    assert sorted(p.name for p in (box.root / "etc").iterdir()) == ["group", "new", "passwd"]


def test_resolv_conf_of_the_image_is_covered_and_kept(box: Box) -> None:
    (box.root / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    ran = box.sh("cat /etc/resolv.conf; echo x >> /etc/resolv.conf || echo read-only")
    assert "192.0.2.1" not in ran.out
    assert ran.out.endswith("read-only\n")
    assert (box.root / "etc/resolv.conf").read_text() == "nameserver 192.0.2.1\n"


def test_system_files_are_protected(box: Box) -> None:
    ran = box.sh(
        "echo 1 > /proc/sys/kernel/domainname; echo x > /proc/sysrq-trigger; cat /proc/kcore /proc/keys | wc -c; ls /sys/firmware | wc -l;"
        "echo 1 > /sys/kernel/uevent_seqnum; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x; mount -t tmpfs x /tmp; mount -o remount,rw /sys; true"
    )
    assert ran.out.split() == ["0", "0"]
    assert (
        ran.err.count("Read-only file system") + ran.err.count("ermission denied") + ran.err.count("No such file") >= 5
    )


def test_own_processes_only(box: Box) -> None:
    pids = [int(p) for p in box.sh("ls /proc | grep '^[0-9]'").out.split()]
    assert max(pids) < 10


def test_network_none(box: Box) -> None:
    ran = box.sh("ls /sys/class/net; ip link show lo; ping -c1 -W1 127.0.0.1 >/dev/null && echo lo-up", network="none")
    assert ran.out.split()[0] == "lo"
    assert "eth0" not in ran.out
    assert "lo-up" in ran.out
    assert sorted(box.sh("ls /sys/class/net").out.split()) == sorted(os.listdir("/sys/class/net"))


def test_orphans_end_with_the_command(box: Box) -> None:
    begin = time.monotonic()
    ran = box.sh("(sleep 0.05; while :; do echo late >> /late; sleep 0.01; done) & (setsid sleep 1000 &) ; echo now")
    assert ran.out == "now\n"
    size = (box.root / "late").stat().st_size if (box.root / "late").exists() else 0
    assert time.monotonic() - begin < 5
    threading.Event().wait(0.1)
    assert ((box.root / "late").stat().st_size if (box.root / "late").exists() else 0) == size


class Flag:
    is_set = False


def test_cancel_ends_the_command_soon(box: Box) -> None:
    flag = Flag()

    def output(stream: int, data: bytes) -> None:
        flag.is_set = True

    from pybuild.rootfs.run import RunSpec, run

    begin = time.monotonic()
    result = run(
        RunSpec(
            root=str(box.root), argv=("/bin/sh", "-c", "trap '' TERM INT; echo begun; sleep 1000 & wait"), env=box.env
        ),
        box.isolation,
        output=output,
        cancel=flag,
    )
    assert result.signal == 9
    assert time.monotonic() - begin < 2


def test_an_output_that_raises_ends_the_command(box: Box) -> None:
    def output(stream: int, data: bytes) -> None:
        raise OSError(28, "no space")

    from pybuild.rootfs.run import RunSpec, run

    with pytest.raises(OSError, match="no space"):
        run(
            RunSpec(root=str(box.root), argv=("/bin/sh", "-c", "echo x; sleep 1000"), env=box.env),
            box.isolation,
            output=output,
        )


def test_steps_side_by_side(tmp_path: Path, template: Path, namespaces: Isolation) -> None:
    # each waits for all the others, through a directory that they share: one after the other they would never end
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    results: list[str] = []

    def one(n: int) -> None:
        root = tmp_path / f"root-{n}"
        subprocess.run(["cp", "-a", str(template), str(root)], check=True)
        wait = f"touch /m/{n}; while [ $(ls /m | wc -l) -lt 4 ]; do sleep 0.01; done; echo {n}"
        results.append(Box(root, namespaces).sh(wait, mounts=(RunMount("cache", "/m", str(meeting)),)).out)

    threads = [threading.Thread(target=one, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(results) == sorted(f"{n}\n" for n in range(4))


def test_bad_arguments(box: Box) -> None:
    with pytest.raises(RunError, match="NUL"):
        box.run("/bin/echo", "a\0b")
    with pytest.raises(IsolationError, match="could not be set up"):
        Box(box.root / "missing", box.isolation).sh("true")
