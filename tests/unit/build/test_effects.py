"""What metadata instructions do to a config."""

from __future__ import annotations

import pytest

from pybuild.build.effects import (
    apply_metadata,
    clear_inherited_cmd,
    command_line,
    join_workdir,
)
from pybuild.dockerfile.parser import parse
from pybuild.errors import DockerfileError


def config_after(text: str, section: dict[str, object] | None = None) -> dict[str, object]:
    section = {} if section is None else section
    dockerfile = parse(f"FROM scratch\n{text}\n".encode(), "Dockerfile")
    for instruction in dockerfile.stages[0].instructions:
        assert apply_metadata(section, instruction), instruction
    return section


def test_env_replaces_in_place_and_appends() -> None:
    section = config_after("ENV B=2 C=3\nENV A=9", {"Env": ["A=1", "B=1"]})
    assert section["Env"] == ["A=9", "B=2", "C=3"]


def test_labels_merge() -> None:
    assert config_after("LABEL a=1 b=2\nLABEL a=3")["Labels"] == {"a": "3", "b": "2"}


def test_shell_form_uses_the_shell_of_the_moment() -> None:
    section = config_after('CMD echo one\nSHELL ["/bin/bash", "-ec"]\nENTRYPOINT echo two')
    assert section["Cmd"] == ["/bin/sh", "-c", "echo one"]
    assert section["Entrypoint"] == ["/bin/bash", "-ec", "echo two"]
    assert section["Shell"] == ["/bin/bash", "-ec"]


def test_expose_ranges_and_protocols() -> None:
    section = config_after("EXPOSE 80 53/udp 8000-8002/tcp")
    assert section["ExposedPorts"] == {"53/udp": {}, "80/tcp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}}


def test_volume_must_have_a_name() -> None:
    with pytest.raises(DockerfileError, match="empty string"):
        config_after('VOLUME [""]')


def test_unknown_signal_is_refused() -> None:
    with pytest.raises(DockerfileError, match=r"(?i)signal"):
        config_after("STOPSIGNAL SIGNOPE")


def test_healthcheck_keeps_only_what_was_given() -> None:
    section = config_after("HEALTHCHECK --interval=5s --retries=3 CMD curl -f /")
    assert section["Healthcheck"] == {"Test": ["CMD-SHELL", "curl -f /"], "Interval": 5_000_000_000, "Retries": 3}


@pytest.mark.parametrize(
    ("current", "path", "expected"),
    [("", "a", "/a"), ("/a", "b/c", "/a/b/c"), ("/a", "/b", "/b"), ("/a", "..", "/"), ("/", ".", "/"), ("/a", "//b//c/", "/b/c")],
)
def test_workdir_joins(current: str, path: str, expected: str) -> None:
    assert join_workdir(current, path) == expected


def test_entrypoint_drops_the_bases_cmd_only_when_the_stage_has_none() -> None:
    section = {"Cmd": ["/bin/sh"]}
    clear_inherited_cmd(section, sets_entrypoint=True, sets_cmd=True)
    assert section == {"Cmd": ["/bin/sh"]}
    clear_inherited_cmd(section, sets_entrypoint=True, sets_cmd=False)
    assert section == {}


def test_exec_form_is_taken_as_it_is() -> None:
    stage = parse(b'FROM scratch\nCMD ["a", "b c"]\n', "Dockerfile").stages[0]
    assert command_line({}, stage.instructions[0].command) == ["a", "b c"]  # type: ignore[attr-defined]
