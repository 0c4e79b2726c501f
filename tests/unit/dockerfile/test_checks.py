"""Build checks: a finding for each rule, none for the right way."""

from __future__ import annotations

import pytest

from pybuild._native.match import Matcher
from pybuild.dockerfile.checks import EXPERIMENTAL, RULES, base_platform, ignored_sources, rule_url, undefined_variables
from pybuild.dockerfile.instructions import Add, Copy
from pybuild.dockerfile.parser import parse
from pybuild.errors import DockerfileError, Place


def findings(text: str) -> list[tuple[str, int]]:
    return [(w.rule, w.place.line) for w in parse(text.encode()).warnings]


def messages(text: str) -> list[str]:
    return [w.message for w in parse(text.encode()).warnings]


GOOD = """\
# syntax=docker/dockerfile:1
ARG TAG=3
# build makes the program
FROM --platform=$BUILDPLATFORM alpine:${TAG} AS build
WORKDIR /src
COPY . .
ENV A=1 B=2
RUN make \\
  # with a comment
  all
FROM scratch
COPY --from=build /src/x /x
ARG VERSION=1
ENV PUBLIC_KEY=x PATH=/x:$PATH V=$VERSION
EXPOSE 80/tcp
HEALTHCHECK CMD ["/x", "check"]
ENTRYPOINT ["/x"]
CMD ["run"]
"""


def test_nothing_to_say() -> None:
    assert findings(GOOD) == []


@pytest.mark.parametrize(
    ("text", "expected", "message"),
    [
        ("FROM a AS Build\n", [("StageNameCasing", 1)], "Stage name 'Build' should be lowercase"),
        ("FROM a as build\n", [("FromAsCasing", 1)], "'as' and 'FROM' keywords' casing do not match"),
        ("from a AS build\n", [("FromAsCasing", 1)], "'AS' and 'from' keywords' casing do not match"),
        ("FROM a\nRUN x \\\n\n y\n", [("NoEmptyContinuation", 4)], "Empty continuation line"),
        ("FROM a\nrun x\nRUN y\n", [("ConsistentInstructionCasing", 2)], "Command 'run' should match the case of the command majority (uppercase)"),
        ("from a\nrun x\nRUN y\n", [("ConsistentInstructionCasing", 3)], "Command 'RUN' should match the case of the command majority (lowercase)"),
        ("FROM a\nRun x\n", [("ConsistentInstructionCasing", 2)], "Command 'Run' should match the case of the command majority (uppercase)"),
        ("FROM a AS x\nFROM b AS x\n", [("DuplicateStageName", 2)], 'Duplicate stage name "x", stage names should be unique'),
        ("FROM a AS scratch\n", [("ReservedStageName", 1)], 'Stage name should not use the same name as reserved stage "scratch"'),
        ("FROM a\nCMD x\n", [("JSONArgsRecommended", 2)], "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals"),
        ("FROM a\nMAINTAINER x\n", [("MaintainerDeprecated", 2)], "Maintainer instruction is deprecated in favor of using label"),
        ("ARG TAG=1\nFROM a:$TGA\n", [("UndefinedArgInFrom", 2), ("InvalidDefaultArgInFrom", 2)], "FROM argument 'TGA' is not declared (did you mean TAG?)"),
        ("FROM a\nWORKDIR x\nWORKDIR y\n", [("WorkdirRelativePath", 2)], 'Relative workdir "x" can have unexpected results if the base image changes'),
        ("FROM scratch\nENV DIR=/x\nCOPY a $DRI/y\n", [("UndefinedVar", 3)], "Usage of undefined variable '$DRI' (did you mean $DIR?)"),
        ('FROM a\nCMD ["x"]\nCMD ["y"]\n', [("MultipleInstructionsDisallowed", 2)], "Multiple CMD instructions should not be used in the same stage because only the last one will be used"),
        ("FROM a\nENV x y\n", [("LegacyKeyValueFormat", 2)], '"ENV key=value" should be used instead of legacy "ENV key value" format'),
        ("FROM a\nLABEL x y\n", [("LegacyKeyValueFormat", 2)], '"LABEL key=value" should be used instead of legacy "LABEL key value" format'),
        ("FROM --platform=${TARGETPLATFORM} a\n", [("RedundantTargetPlatform", 1)], "Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior"),
        ("FROM a\nARG API_KEY\n", [("SecretsUsedInArgOrEnv", 2)], 'Do not use ARG or ENV instructions for sensitive data (ARG "API_KEY")'),
        ("FROM a\nENV token=x\n", [("SecretsUsedInArgOrEnv", 2)], 'Do not use ARG or ENV instructions for sensitive data (ENV "token")'),
        ("ARG TAG\nFROM a:${TAG}\n", [("InvalidDefaultArgInFrom", 2)], "Default value for ARG a:${TAG} results in empty or invalid base image name"),
        ("FROM --platform=linux/amd64 a AS x\n", [("FromPlatformFlagConstDisallowed", 1)], 'FROM --platform flag should not use constant value "linux/amd64"'),
        ("FROM a\nEXPOSE 80/TCP\n", [("ExposeProtoCasing", 2)], "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"),
        ("FROM a\nEXPOSE 127.0.0.1:80:80\n", [("ExposeInvalidFormat", 2)], "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'"),
    ],
)  # fmt: skip
def test_rules(text: str, expected: list[tuple[str, int]], message: str) -> None:
    assert findings(text) == expected
    assert message in messages(text)


@pytest.mark.parametrize(
    "text",
    [
        'FROM a\nSHELL ["/bin/bash", "-c"]\nCMD x\n',
        'FROM a AS b\nSHELL ["/bin/bash", "-c"]\nFROM b\nCMD x\n',
        "FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y\n",
        "FROM a\nWORKDIR $X/y\n",
        "FROM a\nCOPY x $UNKNOWN\n",
        "FROM scratch AS s\nARG A\nENV B=1\nFROM s\nCOPY $A $B /\n",
        "FROM scratch\nENV X=${HTTP_PROXY}\n",
        "FROM --platform=linux/amd64 a AS x-amd64\n",
        "FROM a\nENV KEY_FILE=x MONKEY=y TOKEN_VERSION=1\n",
        "ARG T=latest\nFROM reg.example:5000/a/b:$T\n",
        'FROM a AS x\nCMD ["a"]\nFROM a\nCMD ["b"]\n',
        "FROM a\nRUN echo $X\n",
    ],
)
def test_right_ways(text: str) -> None:
    assert findings(text) == []


def test_the_check_directive() -> None:
    text = "FROM a AS Build\nMAINTAINER x\n"
    assert len(findings(text)) == 2
    assert findings("# check=skip=StageNameCasing\n" + text) == [("MaintainerDeprecated", 3)]
    assert findings("# check=skip=stagenamecasing, MaintainerDeprecated\n" + text) == []
    assert findings("# check=skip=all\n" + text) == []
    with pytest.raises(DockerfileError, match=r"lint violation found for rules: MaintainerDeprecated, StageNameCasing"):
        parse(("# check=error=true\n" + text).encode())
    with pytest.raises(DockerfileError, match=r"Dockerfile:3: lint violation found for rules: MaintainerDeprecated"):
        parse(("# check=skip=StageNameCasing;error=true\n" + text).encode())
    assert len(parse(("# check=error=true\n" + text).encode(), fail_on_findings=False).warnings) == 2
    assert parse(("# check=error=true\n" + text).encode(), check="skip=all;error=true").warnings == ()


@pytest.mark.parametrize("value", ["skip", "skpi=all", "error=maybe", "all"])
def test_check_directives_that_cannot_be_read(value: str) -> None:
    with pytest.raises(DockerfileError, match=r"Dockerfile:2: failed to parse check options"):
        parse(f"# syntax=x\n# check={value}\nFROM a\n".encode())


def test_a_comment_switches_a_rule_off_for_its_instruction() -> None:
    text = "FROM a\n# check=skip=JSONArgsRecommended\nCMD x\nENTRYPOINT y\n"
    assert findings(text) == [("JSONArgsRecommended", 4)]
    assert findings("FROM a\n# check=skip=all\n# a note\nCMD x\n") == []
    assert findings("FROM a\n# check=skip=JSONArgsRecommended\n\nCMD x\n") == [("JSONArgsRecommended", 4)]


def test_experimental_rules_run_when_named() -> None:
    text = "# unrelated\nARG A=1\n# x is it\nFROM a AS x\n# what\nFROM b AS y\n"
    assert findings("# check=skip=none\n" + text) == []
    wanted = [("InvalidDefinitionDescription", 3), ("InvalidDefinitionDescription", 7)]
    assert findings("# check=experimental=InvalidDefinitionDescription\n" + text) == wanted
    assert findings("# check=experimental=all\n" + text) == wanted


def test_sources_that_are_ignored() -> None:
    parsed = (
        parse(b"FROM a\nCOPY ./x.log b /d/\nADD https://h/x.log /d\nCOPY --from=s x.log /\n").stages[0].instructions
    )
    assert all(isinstance(i, Copy | Add) for i in parsed)
    found = [w.message for i in parsed for w in ignored_sources(i, Matcher(["*.log"]))]  # type: ignore[arg-type]
    assert found == ['Attempting to Copy file "./x.log" that is excluded by .dockerignore']
    assert ignored_sources(parsed[0], Matcher(["*.log", "!b"])) == []  # type: ignore[arg-type]


def test_variables_that_only_the_build_knows() -> None:
    instruction = parse(b"FROM a\nCOPY $JAVA_HOME $DECLARED $1 /\n").stages[0].instructions[0]
    assert [w.message for w in undefined_variables(instruction, {"HOME": "/"}, ["DECLARED"])] == [
        "Usage of undefined variable '$JAVA_HOME'"
    ]
    assert undefined_variables(instruction, {"JAVA_HOME": "/"}, ["DECLARED"]) == []


def test_base_platforms() -> None:
    place = Place("Dockerfile", 1)
    assert base_platform("a", "linux/arm64/v8", "linux/arm64", place) == []
    assert [w.rule for w in base_platform("a", "linux/arm64", "linux/amd64", place)] == ["InvalidBaseImagePlatform"]


def test_names_and_pages() -> None:
    assert len(RULES) == 22
    assert set(RULES) >= EXPERIMENTAL
    assert rule_url("JSONArgsRecommended") == "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
    assert rule_url("UndefinedArgInFrom") == "https://docs.docker.com/go/dockerfile/rule/undefined-arg-in-from/"
