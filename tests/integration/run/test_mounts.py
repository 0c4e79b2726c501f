"""Each kind of mount, and that none leaves anything behind."""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
from pathlib import Path

import pytest

from pybuild.errors import IsolationError
from pybuild.rootfs.run import RunMount, copy_tree
from pybuild.rootfs.users import User

from .support import Box, listing

pytestmark = pytest.mark.root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    (path / "sub").mkdir(parents=True)
    (path / "a").write_text("a\n")
    (path / "sub/b").write_text("b\n")
    os.chown(path / "a", 1000, 50)
    (path / "sub").chmod(0o750)
    return path


def test_bind_is_read_only(box: Box, source: Path) -> None:
    before, outside = listing(box.root), listing(source)
    ran = box.sh(
        "cat /mnt/x/a /mnt/x/sub/b; echo y > /mnt/x/a; rm /mnt/x/a; mount -o remount,rw /mnt/x; umount /mnt/x; echo z > /mnt/x/z",
        mounts=(RunMount("bind", "/mnt/x", str(source), readonly=True),),
    )
    assert ran.out == "a\nb\n"
    assert ran.err.count("Read-only file system") == 3
    assert (listing(box.root), listing(source)) == (before, outside)
    assert set(ran.result.touched) >= {"mnt", "mnt/x"}


def test_bind_of_a_file(box: Box, source: Path) -> None:
    before = listing(box.root)
    ran = box.sh("cat /etc/passwd /deep/er/file", mounts=(
        RunMount("bind", "/etc/passwd", str(source / "a"), readonly=True),
        RunMount("bind", "/deep/er/file", str(source / "sub/b"), readonly=True),
    ))  # fmt: skip
    assert ran.out == "a\nb\n"
    assert listing(box.root) == before


def test_writable_bind_forgets_what_is_written(box: Box, source: Path) -> None:
    outside, before = listing(source), listing(box.root)
    ran = box.sh(
        "echo n > /c/new && echo x >> /c/a && rm -r /c/sub && ls /c && cat /c/a && stat -c '%u %g' /c/a",
        mounts=(RunMount("bind", "/c", str(source)),),
    )
    assert ran.out.split() == ["a", "new", "a", "x", "1000", "50"]
    assert ran.err == ""
    assert (listing(source), listing(box.root)) == (outside, before)
    assert os.listdir(box.root.parent) == ["root"]


def test_writable_bind_of_a_file_is_a_copy(box: Box, source: Path) -> None:
    outside, before = listing(source), listing(box.root)
    ran = box.sh(
        "echo x >> /etc/passwd; cat /etc/passwd; stat -c '%u %g' /etc/passwd",
        mounts=(RunMount("bind", "/etc/passwd", str(source / "a")),),
    )
    assert ran.out == "a\nx\n1000 50\n"
    assert (listing(source), listing(box.root)) == (outside, before)
    assert os.listdir(box.root.parent) == ["root"]


def test_copies_keep_what_a_bind_would_show(tmp_path: Path, source: Path) -> None:
    (source / "link").symlink_to("/etc/passwd")
    os.mkfifo(source / "pipe")
    os.utime(source / "sub", (5, 5))
    copy_tree(str(source), str(tmp_path / "copy"))
    was, now = listing(source), listing(tmp_path / "copy")
    del was["pipe"]
    assert {k: (v[0], v[1], v[3]) for k, v in now.items() if k != "."} == {
        k: (v[0], v[1], v[3]) for k, v in was.items() if k != "."
    }
    assert os.readlink(tmp_path / "copy/link") == "/etc/passwd"


def test_cache_is_kept(box: Box, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o750)
    os.chown(cache, 1000, 50)
    before = listing(box.root)
    mount = RunMount("cache", "/c", str(cache))
    assert box.sh("stat -c '%u %g %a' /c; echo v > /c/v", mounts=(mount,)).out == "1000 50 750\n"
    assert box.sh("cat /c/v", mounts=(mount,)).out == "v\n"
    assert "Read-only" in box.sh("echo w > /c/v", mounts=(RunMount("cache", "/c", str(cache), readonly=True),)).err
    assert (cache / "v").read_text() == "v\n"
    assert listing(box.root) == before


def test_tmpfs_with_a_size(box: Box) -> None:
    before = listing(box.root)
    mount = RunMount("tmpfs", "/scratch", size=1 << 20)
    ran = box.sh(
        "stat -c %a /scratch; echo x > /scratch/x && ls /scratch; dd if=/dev/zero of=/scratch/big bs=1M count=2",
        mounts=(mount,),
    )
    assert ran.out == "1777\nx\n"
    assert "No space left" in ran.err
    assert listing(box.root) == before


def test_secret(box: Box) -> None:
    before = listing(box.root)
    mounts = (
        RunMount("secret", "/run/secrets/token", data=b"hunter2"),
        RunMount("secret", "/home/app/.netrc", data=b"machine", mode=0o440, uid=1000, gid=50),
    )
    ran = box.sh(
        "stat -c '%n %u %g %a %s' /run/secrets/token /home/app/.netrc; cat /run/secrets/token; echo; echo x > /run/secrets/token",
        mounts=mounts,
    )
    assert ran.out == "/run/secrets/token 0 0 400 7\n/home/app/.netrc 1000 50 440 7\nhunter2\n"
    assert "Read-only file system" in ran.err
    as_user = box.sh("cat /home/app/.netrc /run/secrets/token", mounts=mounts, user=User(1000, 1000, (1000,)))
    assert as_user.out == "machine"
    assert "ermission denied" in as_user.err
    assert listing(box.root) == before
    assert box.sh("grep -r hunter2 / 2>/dev/null --exclude-dir=proc; ls /run", mounts=()).out == ""


def test_script_below_dev(box: Box) -> None:
    mount = RunMount("file", "/dev/pipes/EOF", data=b"#!/bin/sh\necho $0\n", mode=0o755, readonly=True)
    assert box.run("/bin/sh", "-c", "/dev/pipes/EOF", mounts=(mount,)).out == "/dev/pipes/EOF\n"


def test_nested_mounts_in_any_order(box: Box, source: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    before = listing(box.root)
    ran = box.sh("cat /a/b/c; ls /a /a/cache; touch /a/cache/kept", mounts=(
        RunMount("secret", "/a/b/c", data=b"deep\n"),
        RunMount("cache", "/a/cache", str(tmp_path / "cache")),
        RunMount("tmpfs", "/a"),
    ))  # fmt: skip
    assert ran.out.split() == ["deep", "/a:", "b", "cache", "/a/cache:"]
    assert listing(box.root) == before
    assert os.listdir(tmp_path / "cache") == ["kept"]


def test_ssh_socket_leads_to_the_agent(box: Box, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        path.chmod(0o600)
        agent.listen()
        received: list[bytes] = []

        def answer() -> None:
            connection, _ = agent.accept()
            with connection:
                received.append(connection.recv(100))
                connection.sendall(b"signed")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        # the root's own programs know no such sockets: this interpreter and its libraries do
        libraries = [p for p in ("/usr", "/lib", "/lib64", sys.base_prefix) if os.path.isdir(p)]
        program = "import os, socket; s = socket.socket(socket.AF_UNIX); s.connect(os.environ['SSH_AUTH_SOCK']); s.sendall(b'sign'); print(s.recv(9))"
        before = listing(box.root)
        # a user other than the agent's may connect, which the agent's own socket would refuse
        mount = RunMount("ssh", "/run/buildkit/ssh_agent.0", str(path), mode=0o600, uid=1000, gid=1000)
        ran = box.sh(
            f"stat -c '%F %a %u' $SSH_AUTH_SOCK; {os.path.realpath(sys.executable)} -c \"{program}\"",
            mounts=(mount, *(RunMount("bind", p, p, readonly=True) for p in libraries)),
            user=User(1000, 1000, (1000,)),
            env={"PATH": "/bin", "SSH_AUTH_SOCK": "/run/buildkit/ssh_agent.0"},
        )
        thread.join(5)
    assert ran.out == "socket 600 1000\nb'signed'\n", ran.err
    assert received == [b"sign"]
    assert listing(box.root) == before
    assert os.listdir(box.root.parent) == ["root"]


def test_mount_points_that_were_used_stay(box: Box, tmp_path: Path) -> None:
    """Only what is still empty, and still what was made, is removed."""
    (tmp_path / "cache").mkdir()
    ran = box.sh("touch /new/beside", mounts=(RunMount("cache", "/new/c", str(tmp_path / "cache")),))
    assert ran.code == 0
    assert [p.name for p in (box.root / "new").iterdir()] == ["beside"]


def test_a_mount_in_the_place_of_the_wrong_thing(box: Box, source: Path) -> None:
    with pytest.raises(IsolationError, match="mount point /etc/passwd cannot be used: Not a directory"):
        box.sh("true", mounts=(RunMount("bind", "/etc/passwd", str(source), readonly=True),))
    with pytest.raises(IsolationError, match="mount point /etc cannot be used: Is a directory"):
        box.sh("true", mounts=(RunMount("bind", "/etc", str(source / "a"), readonly=True),))
    with pytest.raises(IsolationError, match="source of the mount at /x cannot be opened"):
        box.sh("true", mounts=(RunMount("bind", "/x", str(source / "none"), readonly=True),))
    assert not (box.root / "x").exists()


def test_links_of_a_mounted_directory_stay_inside_the_root(box: Box, source: Path) -> None:
    (source / "out").symlink_to("/etc/passwd")
    ran = box.sh("cat /m/out", mounts=(RunMount("bind", "/m", str(source), readonly=True),))
    assert ran.out == (box.root / "etc/passwd").read_text()


def test_nothing_is_left_mounted_here(box: Box, source: Path) -> None:
    before = Path("/proc/self/mountinfo").read_bytes()
    box.sh(
        "true",
        mounts=(RunMount("bind", "/m", str(source)), RunMount("tmpfs", "/t"), RunMount("secret", "/s", data=b"x")),
    )
    assert Path("/proc/self/mountinfo").read_bytes() == before
    assert stat.S_ISDIR((box.root / "dev").stat().st_mode)
