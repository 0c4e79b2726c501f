"""Typed instructions: arguments and flags of each."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from pybuild.dockerfile.parser import parse, parse_trigger
from pybuild.errors import DockerfileError, Place


def only(text: str) -> Any:
    (found,) = parse(("FROM base\n" + text).encode()).stages[0].instructions
    return found


def refused(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        only(text)
    assert caught.value.place is not None
    assert caught.value.place.line == 2
    return caught.value


def from_(text: str) -> Any:
    return parse(text.encode()).stages[0].from_


# --- FROM


def test_from() -> None:
    found = from_("FROM --platform=$BUILDPLATFORM golang:1@sha256:x as Build-1\n")
    assert (found.image, found.name, found.platform) == ("golang:1@sha256:x", "build-1", "$BUILDPLATFORM")
    assert from_("from base").name == ""
    assert [s.name for s in parse(b"FROM a AS x\nFROM b AS x\nFROM x\n").stages] == ["x", "x", ""]


@pytest.mark.parametrize(
    "text",
    ["FROM", "FROM a b", "FROM a b c", "FROM a AS", "FROM a AS b c", "FROM a AS 1b", "FROM a AS b$", "FROM a AS _b"],
)
def test_from_refuses(text: str) -> None:
    with pytest.raises(DockerfileError):
        from_(text + "\n")


# --- ENV, LABEL, ARG


@pytest.mark.parametrize(
    ("text", "pairs", "legacy"),
    [
        ("ENV a=1", [("a", "1")], False),
        ("ENV a=1 b='x y' c=\"x y\" d=x\\ y", [("a", "1"), ("b", "'x y'"), ("c", '"x y"'), ("d", "x\\ y")], False),
        ("ENV a b c  d", [("a", "b c  d")], True),
        ("ENV a \"b\" 'c'", [("a", "\"b\" 'c'")], True),
        ("ENV a b=c", [("a", "b=c")], True),
        ("ENV a=", [("a", "")], False),
        ("ENV a==b", [("a", "=b")], False),
        ("ENV a='''' b=\"it's\"", [("a", "''''"), ("b", '"it\'s"')], False),
        ("ENV a='b\\' c=d", [("a", "'b\\'"), ("c", "d")], False),
        ('ENV a="b\\" c"', [("a", '"b\\" c"')], False),
        ("ENV a=\\", [("a", "")], False),
        ('ENV a="b', [("a", '"b')], False),
        ("ENV a=b \\\n  # note\n  c=d", [("a", "b"), ("c", "d")], False),
    ],
)
def test_env(text: str, pairs: list[tuple[str, str]], legacy: bool) -> None:
    found = only(text + "\n")
    assert isinstance(found, Env)
    assert [(p.key, p.value) for p in found.pairs] == pairs
    assert found.legacy is legacy


def test_label() -> None:
    found = only('LABEL "a b"=c "d"="e f" g.h=\'i\'\n')
    assert isinstance(found, Label)
    assert [(p.key, p.value) for p in found.pairs] == [('"a b"', "c"), ('"d"', '"e f"'), ("g.h", "'i'")]


def test_arg() -> None:
    found = only('ARG A B= C=1 D="x y" E=a=b\n')
    assert isinstance(found, Arg)
    assert [(p.key, p.value) for p in found.pairs] == [("A", None), ("B", ""), ("C", "1"), ("D", '"x y"'), ("E", "a=b")]


# --- commands


def test_forms_of_commands() -> None:
    assert only('RUN ["a", "b c"]').command == only('RUN   [ "a" ,"b c" ]  ').command
    run = only('RUN ["a", "b c"]')
    assert isinstance(run, Run) and run.command.argv == ("a", "b c") and not run.command.shell
    for text in ("['a', 'b']", '["a", b]', '["a"', '["a"] x', "[NaN]", '["a",]', "[ -f x ] && y", '"["a"]"'):
        shell = only(f"RUN {text}")
        assert shell.command.shell and shell.command.argv == (text,)
    assert only("RUN []").command.argv == ()
    cmd = only("CMD")
    assert isinstance(cmd, Cmd) and cmd.command.argv == ("",) and cmd.command.shell
    entrypoint = only('ENTRYPOINT ["/x", "\\u00e9\\n\\ud800"]')
    assert isinstance(entrypoint, Entrypoint) and entrypoint.command.argv == ("/x", "é\n\ufffd")


@pytest.mark.parametrize(
    "text",
    [
        'RUN ["a", 1]',
        "CMD [1]",
        'COPY ["a", null]',
        'VOLUME [["a"]]',
        'CMD ["a", {}]',
        "RUN " + "[" * 5000 + "]" * 5000,
    ],
)
def test_arrays_hold_strings_alone(text: str) -> None:
    assert "must be comprised of strings only" in refused(text).message


def test_run_flags() -> None:
    run = only(
        "RUN --mount=type=cache,target=/c --mount=target=/b,from=x,ro=false --network=host --security=insecure --device=a,required x --y"
    )
    assert isinstance(run, Run)
    assert run.command.argv == ("x --y",)
    assert [(m.type, m.target, m.from_, m.readonly) for m in run.mounts] == [
        ("cache", "/c", None, None),
        ("bind", "/b", "x", False),
    ]
    assert (run.network, run.security, run.devices) == ("host", "insecure", ("a,required",))
    assert only("RUN -- --x").command.argv == ("--x",)
    assert only("RUN -x").command.argv == ("-x",)
    assert only('RUN --mount=type=bind,"target=/a b" x').mounts[0].target == "/a b"


def test_shell() -> None:
    found = only('SHELL ["/bin/bash", "-c"]')
    assert isinstance(found, Shell) and found.argv == ("/bin/bash", "-c")
    assert "JSON form" in refused("SHELL /bin/bash -c").message
    refused("SHELL []")
    refused("SHELL")


# --- COPY, ADD


def test_copy() -> None:
    found = only("COPY --from=Build --chown=u:g --chmod=u=rwX --link --parents=TRUE --exclude=*.a --exclude=!b a b /d/")
    assert isinstance(found, Copy)
    assert found.sources == ("a", "b") and found.destination == "/d/"
    assert (found.from_, found.chown, found.chmod, found.link, found.parents) == ("Build", "u:g", "u=rwX", True, True)
    assert found.excludes == ("*.a", "!b")
    assert only('COPY ["a b", "c d"]').sources == ("a b",)
    assert only("COPY --link=false a b").link is False


def test_add() -> None:
    checksum = "sha256:" + "0" * 64
    found = only(f"ADD --keep-git-dir --checksum={checksum} --unpack=false --chmod=0644 https://x/y /d")
    assert isinstance(found, Add)
    assert (found.keep_git_dir, found.checksum, found.unpack, found.chmod) == (True, checksum, False, "0644")
    assert only("ADD a b").unpack is None
    assert only("ADD --unpack a b").unpack is True


@pytest.mark.parametrize("text", ["COPY", "COPY a", "ADD a", 'COPY ["a"]', "COPY --from=x"])
def test_copy_needs_two(text: str) -> None:
    assert "requires at least two arguments" in refused(text).message


def test_copy_from_takes_no_variable() -> None:
    error = refused("COPY --from=$X a b")
    assert "variable expansion is not supported for --from" in error.message
    assert error.place is not None and error.place.column == 12
    assert only("COPY --from=x$ a b").from_ == "x$"


# --- the others


def test_one_word_instructions() -> None:
    assert only("WORKDIR /a b ").path == "/a b"
    assert isinstance(only("WORKDIR x"), Workdir)
    assert only("USER a:b").user == "a:b"
    assert isinstance(only("USER a"), User)
    assert only("MAINTAINER A B <c>").name == "A B <c>"
    assert isinstance(only("MAINTAINER a"), Maintainer)
    assert only("STOPSIGNAL $S").signal == "$S"
    assert isinstance(only("STOPSIGNAL 9"), Stopsignal)


def test_expose_and_volume() -> None:
    expose = only("EXPOSE 90 8000-8010/udp $P")
    assert isinstance(expose, Expose) and expose.ports == ("$P", "8000-8010/udp", "90")
    volume = only('VOLUME ["/a", " /b c "]')
    assert isinstance(volume, Volume) and volume.paths == ("/a", "/b c")
    assert only("VOLUME /a   /b").paths == ("/a", "/b")
    assert "empty string" in refused('VOLUME ["/a", " "]').message


def test_healthcheck() -> None:
    found = only(
        "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1h --start-interval=1.5s --retries=3 CMD curl x || exit 1"
    )
    assert isinstance(found, Healthcheck)
    assert found.test == ("CMD-SHELL", "curl x || exit 1")
    assert (found.interval, found.timeout, found.start_period, found.start_interval, found.retries) == (
        90_000_000_000,
        500_000_000,
        3_600_000_000_000,
        1_500_000_000,
        3,
    )
    assert only('HEALTHCHECK cmd ["a", "b"]').test == ("CMD", "a", "b")
    assert only("HEALTHCHECK --interval=0s none").test == ("NONE",)
    assert only("HEALTHCHECK --interval=0 --retries=0 CMD x").interval == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HEALTHCHECK", "at least one argument"),
        ("HEALTHCHECK NONE x", "takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command"),
        ("HEALTHCHECK CMD []", "Missing command"),
        ("HEALTHCHECK TCP 7000", 'Unknown type "TCP"'),
        ("HEALTHCHECK --interval=1us CMD x", "cannot be less than 1ms"),
        ("HEALTHCHECK --interval=-5s CMD x", "cannot be less than 1ms"),
        ("HEALTHCHECK --timeout=5 CMD x", "invalid duration"),
        ("HEALTHCHECK --retries=-1 CMD x", "cannot be negative"),
        ("HEALTHCHECK --retries=x CMD x", "invalid value for --retries"),
        ("HEALTHCHECK --retrys=1 CMD x", "unknown flag: --retrys"),
    ],
)
def test_healthcheck_refuses(text: str, message: str) -> None:
    assert message in refused(text).message


def test_onbuild() -> None:
    found = only("onbuild   RUN --mount=type=tmpfs,target=/t a \\\n  b\n")
    assert isinstance(found, Onbuild)
    assert found.trigger == "RUN --mount=type=tmpfs,target=/t a   b"
    for text in (
        "ONBUILD",
        "ONBUILD ONBUILD RUN x",
        "ONBUILD FROM x",
        "ONBUILD maintainer x",
        "ONBUILD --x RUN y",
        "ONBUILD ENV A",
    ):
        refused(text)


def test_triggers() -> None:
    place = Place("Dockerfile", 3)
    run = parse_trigger("RUN a", place=place)
    assert isinstance(run, Run) and run.place is place and run.text == "RUN a"
    for text in ("", "FROM x", "RUN a\nRUN b", "FROB x", "# x", "COPY <<EOF /x\nopen"):
        with pytest.raises(DockerfileError) as caught:
            parse_trigger(text, place=place)
        assert caught.value.place == place
