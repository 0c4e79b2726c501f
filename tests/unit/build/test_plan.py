"""Which stages are built, and from what."""

from __future__ import annotations

import pytest

from pybuild.build.plan import Plan, make_plan
from pybuild.dockerfile.parser import parse
from pybuild.errors import DockerfileError
from pybuild.oci.platform import parse_platform

AMD64 = parse_platform("linux/amd64")


def plan_of(text: str, target: str = "", contexts: dict[str, str] | None = None, **build_args: str) -> Plan:
    return make_plan(
        parse(text.encode(), "Dockerfile"),
        target=target,
        build_args=build_args,
        named_contexts=contexts or {},
        build_platform=AMD64,
        target_platform=parse_platform("linux/arm64"),
    )


def test_unused_stages_are_left_out() -> None:
    plan = plan_of("FROM a AS one\nFROM b AS two\nFROM c AS three\nCOPY --from=ONE /x /y\n")
    assert [s.title for s in plan.stages] == ["one", "three"]
    assert plan.stage(2).sources["ONE"].stage == 0


def test_target_by_name_in_any_case() -> None:
    text = "FROM a AS one\nFROM b AS two\n"
    assert plan_of(text, "ONE").target == 0
    with pytest.raises(DockerfileError, match=r"ones is not a valid target build stage.*did you mean one"):
        plan_of(text, "ones")


def test_a_base_can_be_an_earlier_stage_or_an_image_of_that_name() -> None:
    plan = plan_of("FROM alpine AS alpine\nFROM alpine\n")
    assert plan.stage(0).base.kind == "image"
    assert plan.stage(1).base.kind == "stage"


def test_global_args_and_platform_args_reach_from() -> None:
    plan = plan_of("ARG V=1\nARG IMAGE=base:$V\nFROM --platform=$BUILDPLATFORM ${IMAGE}-$TARGETARCH\n", V="2")
    stage = plan.stages[0]
    assert stage.base.name == "base:2-arm64"
    assert stage.platform == AMD64


def test_blank_base_names_the_line() -> None:
    with pytest.raises(DockerfileError, match=r"Dockerfile:1: base name .* should not be blank"):
        plan_of("FROM $NOPE\n")


def test_copy_from_a_later_stage_is_refused() -> None:
    with pytest.raises(DockerfileError, match=r"Dockerfile:2: .*comes later"):
        plan_of("FROM a AS one\nCOPY --from=two /x /\nFROM b AS two\nCOPY --from=one /x /\n")


def test_copy_from_an_index() -> None:
    plan = plan_of("FROM a\nFROM b\nCOPY --from=0 /x /\n")
    assert plan.stage(1).depends_on() == {0}
    assert plan.sources_on_disk() == {0}


def test_named_contexts_win_over_stages_and_images() -> None:
    plan = plan_of("FROM a AS base\nFROM base\nCOPY --from=src /x /\n", contexts={"BASE": "docker-image://x", "src": "/dir"})
    stage = plan.stage(1)
    assert stage.base.kind == "context"
    assert stage.sources["src"].kind == "context"


def test_mount_sources_are_dependencies() -> None:
    plan = plan_of("FROM a AS tools\nFROM b\nRUN --mount=from=tools,target=/t true\n")
    assert plan.stage(1).depends_on() == {0}
