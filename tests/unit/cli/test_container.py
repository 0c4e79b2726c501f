"""Signs of a container."""

from __future__ import annotations

import pathlib

import pytest

from pybuild.cli.container import in_container

HOST_MOUNTS = "/dev/sda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\noverlay /var/lib/x overlay rw 0 0\n"


@pytest.fixture
def host(tmp_path: pathlib.Path) -> pathlib.Path:
    """The root of a machine that is no container."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/user.slice/session-1.scope\n")
    (tmp_path / "proc/mounts").write_text(HOST_MOUNTS)
    return tmp_path


def test_no_sign(host: pathlib.Path) -> None:
    assert not in_container(str(host), {})


def test_variable(host: pathlib.Path) -> None:
    assert in_container(str(host), {"container": "podman"})


@pytest.mark.parametrize(
    "mark",
    [
        "run/.containerenv",
        ".dockerenv",
        "var/run/secrets/kubernetes.io/serviceaccount",
        "__runsc_containers__",
        "proc/vz",
    ],
)
def test_files(host: pathlib.Path, mark: str) -> None:
    (host / mark).parent.mkdir(parents=True, exist_ok=True)
    (host / mark).touch()
    assert in_container(str(host), {})


def test_a_virtuozzo_host_is_no_container(host: pathlib.Path) -> None:
    (host / "proc/vz").touch()
    (host / "proc/bc").touch()
    assert not in_container(str(host), {})


@pytest.mark.parametrize(
    "line", ["0::/kubepods/besteffort/pod1", "12:cpu:/docker/abc", "0::/machine.slice/libpod-1.scope"]
)
def test_groups(host: pathlib.Path, line: str) -> None:
    (host / "proc/self/cgroup").write_text(line + "\n")
    assert in_container(str(host), {})


def test_overlay_root(host: pathlib.Path) -> None:
    (host / "proc/mounts").write_text("overlay / overlay rw 0 0\n")
    assert in_container(str(host), {})


def test_only_the_last_mount_at_the_root_counts(host: pathlib.Path) -> None:
    (host / "proc/mounts").write_text("rootfs / rootfs rw 0 0\noverlay / overlay rw 0 0\n/dev/sda / ext4 rw 0 0\n")
    assert not in_container(str(host), {})
