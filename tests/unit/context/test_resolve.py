"""Which directory a context is."""

from __future__ import annotations

import os
import pathlib

import pytest

from pybuild.context.resolve import Context, find_dockerfile, resolve
from pybuild.errors import ContextError


def root(text: str, directory: pathlib.Path, **more: str) -> str:
    return resolve(text, directory=str(directory), **more).root


def refused(text: str, directory: pathlib.Path, **more: str) -> str:
    with pytest.raises(ContextError) as caught:
        root(text, directory, **more)
    return str(caught.value)


def test_paths(tmp_path: pathlib.Path) -> None:
    assert root("/a/b/", tmp_path) == "/a/b"
    assert root("sub", tmp_path) == f"{tmp_path}/sub"
    assert root(".", tmp_path) == str(tmp_path)
    assert root("dir:///a", tmp_path) == "/a"


def test_a_missing_directory_is_no_error_yet(tmp_path: pathlib.Path) -> None:
    assert root("nowhere", tmp_path) == f"{tmp_path}/nowhere"


def test_parents_go_through_links_as_the_kernel_does(tmp_path: pathlib.Path) -> None:
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/away")
    assert root("link/..", tmp_path) == os.path.realpath(tmp_path / "far")


def test_relative_dir_is_taken_from_here_first(tmp_path: pathlib.Path) -> None:
    (tmp_path / "tmp").mkdir()
    assert root("dir://tmp", tmp_path) == f"{tmp_path}/tmp"


def test_relative_dir_that_only_the_root_has(tmp_path: pathlib.Path) -> None:
    name = str(tmp_path)[1:]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert root(f"dir://{name}", elsewhere) == str(tmp_path)


@pytest.mark.parametrize("text", ["gs://b/o", "s3://b", "git://h/p", "tar://stdin", "https://h/c.tar.gz"])
def test_kinds_of_later_versions(tmp_path: pathlib.Path, text: str) -> None:
    assert "not supported in this version" in refused(text, tmp_path)


@pytest.mark.parametrize("text", ["http://h/c", "ssh://h", "oci://x", "ftp://h"])
def test_unknown_kinds(tmp_path: pathlib.Path, text: str) -> None:
    assert "unknown build context prefix provided" in refused(text, tmp_path)


def test_nothing(tmp_path: pathlib.Path) -> None:
    assert "please specify a path to the build context" in refused("", tmp_path)


def test_bucket_counts_without_context_only(tmp_path: pathlib.Path) -> None:
    assert "gs://" in refused("", tmp_path, bucket="b")
    assert "s3://" in refused("", tmp_path, bucket="s3://b")
    assert root("x", tmp_path, bucket="b") == f"{tmp_path}/x"


@pytest.mark.parametrize("prefix", ["", "dir://"])
def test_sub_path(tmp_path: pathlib.Path, prefix: str) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    assert root(f"{prefix}{tmp_path}", tmp_path, sub_path="a/b") == f"{os.path.realpath(tmp_path)}/a/b"
    assert root(f"{prefix}{tmp_path}", tmp_path, sub_path="/a") == f"{os.path.realpath(tmp_path)}/a"


def test_sub_path_that_is_missing_or_outside(tmp_path: pathlib.Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "out").symlink_to("..")
    assert "no such directory" in refused(str(inner), tmp_path, sub_path="x")
    assert "leads out" in refused(str(inner), tmp_path, sub_path="../")
    assert "leads out" in refused(str(inner), tmp_path, sub_path="out")


def test_dockerfile_from_the_web(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ContextError, match="not supported"):
        find_dockerfile("https://h/Dockerfile", Context(str(tmp_path)))


def test_dockerfile_may_be_a_pipe(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert find_dockerfile("pipe", Context("/nowhere"), directory=str(tmp_path)) == f"{tmp_path}/pipe"
