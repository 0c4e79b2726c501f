"""Which fields of which instructions are expanded."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.dockerfile.expand import expand_instruction, expandable_words, missing_names
from pybuild.dockerfile.parser import parse
from pybuild.errors import DockerfileError

ENV = {"A": "a", "D": "/d", "P": "80 90-91/udp", "OLD": "new"}


def expanded(text: str, env: dict[str, str] | None = None, directive: str = "") -> Any:
    parsed = parse(f"{directive}FROM base\n{text}".encode())
    (found,) = parsed.stages[0].instructions
    return expand_instruction(found, ENV if env is None else env, escape=parsed.escape)


def test_env_and_label_names_and_values() -> None:
    found = expanded("ENV $A=1 B=\"$A b\" C='$A' OLD=x SEES=$OLD")
    assert [(p.key, p.value) for p in found.pairs] == [
        ("a", "1"),
        ("B", "a b"),
        ("C", "$A"),
        ("OLD", "x"),
        ("SEES", "new"),
    ]
    found = expanded("LABEL k.$A=\"v $A\" 'x y'=z")
    assert [(p.key, p.value) for p in found.pairs] == [("k.a", "v a"), ("x y", "z")]
    assert expanded('ENV K a  $A "q"').pairs[0].value == "a  a q"


def test_copy_and_add() -> None:
    found = expanded("COPY --chown=$A:$A --chmod=$A --exclude=$A --from=x $A/x '$A' $D/")
    assert (found.chown, found.chmod, found.sources, found.destination) == ("a:a", "a", ("a/x", "$A"), "/d/")
    assert found.excludes == ("$A",)
    found = expanded('ADD --checksum=$A ["$A b", "$D"]')
    assert (found.checksum, found.sources, found.destination) == ("a", ("a b",), "/d")


def test_heredoc_bodies() -> None:
    found = expanded("COPY <<X <<'Y' /d/\n$A \"$A\"\nX\n$A\nY\n")
    assert [h.content for h in found.heredocs] == ['a "a"\n', "$A\n"]
    run = expanded("RUN <<X\n$A\nX\n")
    assert run.heredocs[0].content == "$A\n"


def test_words_of_the_others() -> None:
    assert expanded("EXPOSE $P 100").ports == ("80", "90-91/udp", "100")
    assert expanded("VOLUME $D '$A'").paths == ("/d", "$A")
    assert expanded('VOLUME ["$D/x y"]').paths == ("/d/x y",)
    assert expanded("USER $A:$A").user == "a:a"
    assert expanded('WORKDIR $D/"x y"').path == "/d/x y"
    assert expanded("STOPSIGNAL SIG$A").signal == "SIGa"


def test_nothing_in_commands() -> None:
    for text in (
        "RUN echo $A",
        "CMD echo $A",
        'ENTRYPOINT ["$A"]',
        "HEALTHCHECK CMD $A",
        'SHELL ["$A"]',
        "MAINTAINER $A",
        "ONBUILD RUN $A",
        "ARG X=$A",
    ):
        parsed = parse(f"FROM base\n{text}\n".encode()).stages[0].instructions[0]
        assert expand_instruction(parsed, ENV) == parsed


def test_escape_directive() -> None:
    found = expanded("ENV A=`$A B=C:\\$A\n", directive="# escape=`\n")
    assert [p.value for p in found.pairs] == ["$A", "C:\\a"]


def test_mounts() -> None:
    found = expanded("RUN --mount=type=$T,id=$A,target=$D/c,uid=${U},sharing=locked x", {**ENV, "T": "cache", "U": "5"})
    mount = found.mounts[0]
    assert (mount.type, mount.id, mount.target, mount.uid, mount.sharing, mount.readonly) == (
        "cache",
        "a",
        "/d/c",
        "5",
        "locked",
        False,
    )


def test_errors_name_the_word_and_the_place() -> None:
    with pytest.raises(DockerfileError, match=r"Dockerfile:2: failed to process '\$\{A': syntax error: missing '}'"):
        expanded("USER ${A")
    with pytest.raises(DockerfileError, match=r"Dockerfile:2: .*NEED: give it"):
        expanded("WORKDIR /x/${NEED:?give it}")


def test_missing_variables() -> None:
    def missing(text: str) -> list[str]:
        return missing_names(parse(f"FROM base\n{text}\n".encode()).stages[0].instructions[0], ENV)

    assert missing("ENV a=$NOPE b=$A c='$QUOTED'") == ["NOPE"]
    assert missing("COPY <<E /x\n$BODY ${C:-d}\nE") == ["BODY", "C"]
    assert missing("RUN echo $NOPE") == []
    assert missing("RUN --mount=target=$T x") == ["T"]
    parsed = parse(b"FROM --platform=$P img:$T\n").stages[0].from_
    assert expandable_words(parsed) == ["img:$T", "$P"]
