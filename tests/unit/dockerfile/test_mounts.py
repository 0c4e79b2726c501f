"""RUN's mounts: fields, defaults, what is refused."""

from __future__ import annotations

import pytest

from pybuild.dockerfile.instructions import Mount
from pybuild.dockerfile.mounts import check_mount, expand_mount, parse_mount, parse_size, split_fields
from pybuild.dockerfile.text_error import TextError


def mount(text: str, workdir: str | None = None, **env: str) -> Mount:
    return expand_mount(parse_mount(text), env, workdir=workdir)


def test_fields() -> None:
    assert split_fields('a=1,"b=x,y","c=""q""",') == ["a=1", "b=x,y", 'c="q"', ""]
    for text in ('"a', '"a"b', 'a"b'):
        with pytest.raises(TextError):
            split_fields(text)


def test_bind() -> None:
    found = mount("target=/t,source=a")
    assert (found.type, found.target, found.source, found.readonly) == ("bind", "/t", "a", True)
    assert mount("dst=/t,rw").readonly is False
    assert mount("destination=/t,readwrite=false").readonly is True
    assert mount("target=/t,ro=false").readonly is False
    assert mount("TYPE=BIND,Target=/t").type == "bind"
    assert mount("target=t", workdir="/w").target == "/w/t"
    assert mount("target=../t/", workdir="/w").target == "/t"


def test_cache() -> None:
    found = mount("type=cache,target=/c/../d/")
    assert (found.id, found.sharing, found.readonly) == ("/d", "shared", False)
    found = mount("type=cache,id=x,target=/c,sharing=LOCKED,mode=0700,uid=1,gid=2,from=img,source=s,ro")
    assert (found.id, found.sharing, found.mode, found.uid, found.gid, found.from_, found.source, found.readonly) == (
        "x", "locked", "0700", "1", "2", "img", "s", True,
    )  # fmt: skip


def test_tmpfs_secret_ssh() -> None:
    assert mount("type=tmpfs,target=/t,size=64m").size == "64m"
    secret = mount("type=secret,id=tok")
    assert (secret.id, secret.target, secret.required) == ("tok", "/run/secrets/tok", False)
    assert mount("type=secret,id=tok,env=TOKEN").target is None
    assert mount("type=secret,id=tok,env=TOKEN,target=/x").target == "/x"
    assert mount("type=secret,target=/x/tok").id == "tok"
    assert mount("type=secret,source=s,required").required is True
    assert mount("type=secret,id=s,required=false").required is False
    ssh = mount("type=ssh")
    assert (ssh.id, ssh.target) == ("default", None)


def test_variables() -> None:
    found = mount("type=$T,target=/c/$X,id='$X'", T="cache", X="x")
    assert (found.type, found.target, found.id) == ("cache", "/c/x", "$X")
    assert mount("target=/t,ro=$R", R="false").readonly is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=bnd,target=/t", 'unsupported mount type "bnd"'),
        ("type=cache", "cache mount needs a target"),
        ("target=/", "root cannot be mounted over"),
        ("type=tmpfs,target=/x/..", "root cannot be mounted over"),
        ("target=/t,mode=0700", 'mode not allowed for "bind"'),
        ("type=tmpfs,target=/t,uid=1", 'uid not allowed for "tmpfs"'),
        ("type=bind,target=/t,sharing=shared", "invalid cache sharing set for bind"),
        ("type=cache,target=/t,sharing=x", 'unsupported sharing value "x"'),
        ("type=cache,target=/t,size=1m", "unexpected key 'size' for mount type 'cache'"),
        ("type=cache,target=/t,required", "unexpected key 'required' for mount type 'cache'"),
        ("type=cache,target=/t,env=X", "unexpected key 'env' for mount type 'cache'"),
        ("type=secret", "invalid secret mount"),
        ("type=secret,id=a,source=b", "both source and id"),
        ("type=secret,id=a,from=b", "should not have a from"),
        ("type=ssh,from=b", "should not have a from"),
        ("type=tmpfs,target=/t,from=b", "should not have a from"),
        ("type=cache,target=/t,mode=9", "invalid value 9 for mode"),
        ("type=cache,target=/t,uid=x", "invalid value x for uid"),
        ("type=tmpfs,target=/t,size=big", "invalid value for size"),
        ("target=/t,ro=maybe", "invalid value for ro"),
        ("target", "must be a key=value pair"),
        ("target=/t,sourec=x", "unexpected key 'sourec'"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(TextError) as caught:
        mount(text)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1024", 1024), ("64m", 64 << 20), ("1.5g", 3 << 29), ("2KiB", 2048), ("1 MB", 1 << 20), ("3b", 3)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_look_ahead() -> None:
    check_mount(parse_mount("type=$T"))
    check_mount(parse_mount("type=cache,target=/c"))
    with pytest.raises(TextError, match="needs a target"):
        check_mount(parse_mount("type=cache"))
