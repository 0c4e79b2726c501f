"""Image references."""

from __future__ import annotations

import pytest

from pybuild.errors import ReferenceError_
from pybuild.oci.reference import parse_reference

DIGEST = "sha256:" + "0123456789abcdef" * 4
HUB = "index.docker.io"


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("debian", HUB, "library/debian", "latest", ""),
        ("debian:12", HUB, "library/debian", "12", ""),
        ("  debian:12\n", HUB, "library/debian", "12", ""),
        ("me/app", HUB, "me/app", "latest", ""),
        ("a/b/c:x", HUB, "a/b/c", "x", ""),
        ("docker.io/debian", HUB, "library/debian", "latest", ""),
        ("docker.io/library/debian", HUB, "library/debian", "latest", ""),
        ("index.docker.io/me/app:1", HUB, "me/app", "1", ""),
        ("registry-1.docker.io/debian", HUB, "library/debian", "latest", ""),
        ("ghcr.io/app", "ghcr.io", "app", "latest", ""),
        ("localhost/app", "localhost", "app", "latest", ""),
        ("localhost:5000/app:1", "localhost:5000", "app", "1", ""),
        ("registry:5000/a/b", "registry:5000", "a/b", "latest", ""),
        ("[::1]:5000/app", "[::1]:5000", "app", "latest", ""),
        ("10.0.0.1/app", "10.0.0.1", "app", "latest", ""),
        (f"debian@{DIGEST}", HUB, "library/debian", "", DIGEST),
        (f"ghcr.io/app:1@{DIGEST}", "ghcr.io", "app", "1", DIGEST),
        ("a__b/c-d.e---f_g", HUB, "a__b/c-d.e---f_g", "latest", ""),
        ("app:_V1.0-rc_1", HUB, "library/app", "_V1.0-rc_1", ""),
        ("app:" + "t" * 128, HUB, "library/app", "t" * 128, ""),
    ],
)
def test_what_may_be_left_out(text: str, registry: str, repository: str, tag: str, digest: str) -> None:
    found = parse_reference(text)
    assert (found.registry, found.repository, found.tag, found.digest) == (registry, repository, tag, digest)
    assert found.identifier == (digest or tag)
    assert parse_reference(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ":tag",
        "@" + DIGEST,
        "Debian",
        "me/App",
        "a//b",
        "/a",
        "a/",
        "ghcr.io/",
        "a:",
        "a:b c",
        "a b",
        "a:-x",
        "app:" + "t" * 129,
        "a@sha256:123",
        "a@" + DIGEST.upper(),
        "a@md5:" + "0" * 32,
        f"a@{DIGEST}@{DIGEST}",
        "a..b",
        "a___b",
        "-a",
        "a-",
        "gh_cr.io:x/app",
        "host:123456/app",
        "https://ghcr.io/app",
        "../etc/passwd",
        "ghcr.io/../x",
        "a" * 400,
        "app\0",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ReferenceError_, match="could not parse reference"):
        parse_reference(text)


def test_errors_say_what_is_wrong() -> None:
    with pytest.raises(ReferenceError_, match="lower-case"):
        parse_reference("ghcr.io/App")
    with pytest.raises(ReferenceError_, match="no tag"):
        parse_reference("ghcr.io/app:a b")


@pytest.mark.parametrize(
    ("text", "familiar", "full"),
    [
        ("app", "app:latest", f"{HUB}/library/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("docker.io/me/app:1", "docker.io/me/app:1", f"{HUB}/me/app:1"),
        (f"app@{DIGEST}", f"app@{DIGEST}", f"{HUB}/library/app@{DIGEST}"),
    ],
)
def test_as_it_was_typed(text: str, familiar: str, full: str) -> None:
    found = parse_reference(text)
    assert (found.familiar, str(found)) == (familiar, full)


def test_two_ways_to_write_one_reference_are_equal() -> None:
    assert parse_reference("debian") == parse_reference("docker.io/library/debian:latest")
    assert parse_reference("debian").name == f"{HUB}/library/debian"
