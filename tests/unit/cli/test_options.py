"""From a command line to the options of a build."""

from __future__ import annotations

import pathlib

import pytest

from pybuild.build.options import BuildOptions, SecretSource
from pybuild.cli.executor_flags import EXECUTOR_FLAGS
from pybuild.cli.options import apply_environment, build_options, notes
from pybuild.cli.pflag import FlagTable, Values, parse
from pybuild.cli.registry_options import registry_options
from pybuild.errors import ContextError, PybuildError, UsageError
from pybuild.oci.platform import Platform

TABLE = FlagTable(EXECUTOR_FLAGS)


@pytest.fixture
def context(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty directory as the current one, and a context with a Dockerfile below it."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "context"
    path.mkdir()
    (path / "Dockerfile").write_text("FROM scratch\n")
    return path


def values(*words: str, **environment: str) -> Values:
    found = parse(words, TABLE)
    apply_environment(found, environment)
    return found


def options(*words: str, **environment: str) -> BuildOptions:
    return build_options(values("--context=context", *words, **environment), environment)


def refused(*words: str, **environment: str) -> PybuildError:
    with pytest.raises(PybuildError) as caught:
        options(*words, **environment)
    return caught.value


def test_defaults(context: pathlib.Path) -> None:
    found = options("-d", "example.com/a")
    assert found.context == str(context)
    assert found.dockerfile == str(context / "Dockerfile")
    assert found.dockerfile_name == "Dockerfile"
    assert [str(d) for d in found.destinations] == ["example.com/a:latest"]
    assert found.snapshot_mode == "full"
    assert not found.check_only
    assert found.compression.kind == "gzip"
    assert found.compression.level == -1
    assert found.platform is None
    assert found.source_date_epoch is None
    assert found.work_dir == ""
    assert found.oci_layout_path == ""


def test_tags_are_the_destinations_as_written(context: pathlib.Path) -> None:
    found = options("-d", "app", "-d", "localhost:5000/app", "-d", "localhost:5000/app:1")
    assert found.tags == ("app:latest", "localhost:5000/app:latest", "localhost:5000/app:1")


def test_a_destination_is_needed(context: pathlib.Path) -> None:
    assert refused().message == "you must provide --destination, or use --no-push"
    assert options("--no-push").no_push


@pytest.mark.parametrize(("flag", "variable", "result"), [("true", "false", False), ("false", "true", True)])
def test_no_push_of_the_environment_overrules_the_flag(
    context: pathlib.Path, flag: str, variable: str, result: bool
) -> None:
    assert options(f"--no-push={flag}", "-d", "a/b", KANIKO_NO_PUSH=variable).no_push is result


def test_no_push_of_the_environment_must_be_a_boolean(context: pathlib.Path) -> None:
    assert "KANIKO_NO_PUSH" in refused("--no-push", KANIKO_NO_PUSH="maybe").message


def test_build_arguments(context: pathlib.Path) -> None:
    found = options(
        "--no-push", "--build-arg", "A=1=2", "--build-arg=B", "--build-arg", "C", "--build-arg=D=", B="from here"
    )
    assert found.build_args == {"A": "1=2", "B": "from here", "C": "", "D": ""}


def test_labels(context: pathlib.Path) -> None:
    assert options("--no-push", "--label", "a=b,c=d").labels == {"a": "b,c=d"}
    assert "labels must be of the form key=value" in refused("--no-push", "--label", "a").message


def test_the_dockerfile_here_comes_before_that_of_the_context(context: pathlib.Path) -> None:
    here = context.parent / "Dockerfile"
    here.write_text("FROM scratch\n")
    assert options("--no-push").dockerfile == str(here)
    here.unlink()
    assert options("--no-push").dockerfile == str(context / "Dockerfile")


def test_no_dockerfile(context: pathlib.Path) -> None:
    error = refused("--no-push", "-f", "Dockerfile.missing")
    assert isinstance(error, ContextError)
    assert error.message.endswith(
        "please provide a valid path to a Dockerfile within the build context with --dockerfile"
    )
    assert "Dockerfile.missing" in error.hint


def test_a_directory_is_no_dockerfile(context: pathlib.Path) -> None:
    (context.parent / "Dockerfile").mkdir()
    assert options("--no-push").dockerfile == str(context / "Dockerfile")


def test_snapshot_mode(context: pathlib.Path) -> None:
    assert options("--no-push", "--snapshot-mode=redo").snapshot_mode == "redo"
    assert refused("--no-push", "--snapshot-mode=fast").message == "fast is not a valid snapshot mode"


def test_platform(context: pathlib.Path) -> None:
    assert options("--no-push", "--custom-platform=linux/arm/v7").platform == Platform("linux", "arm", "v7")
    assert "Invalid platform" in refused("--no-push", "--custom-platform=a/b/c/d").message


def test_target(context: pathlib.Path) -> None:
    assert options("--no-push", "--target", "one,two").target == "one"


def test_outputs_are_absolute(context: pathlib.Path) -> None:
    found = options("--no-push", "--oci-layout-path=out", "--tar-path", "./x/../image.tar", "--digest-file=/dev/stdout")
    assert found.oci_layout_path == str(context.parent / "out")
    assert found.tar_path == str(context.parent / "image.tar")
    assert found.digest_file == "/dev/stdout"


def test_name_files_need_a_destination(context: pathlib.Path) -> None:
    assert "--destination" in refused("--no-push", "--image-name-with-digest-file=x").message


def test_formats_that_exclude_each_other(context: pathlib.Path) -> None:
    assert "zstd" in refused("--no-push", "--image-format=docker", "--compression=zstd").message
    assert "zstd" in refused("--no-push", "--tar-path=x", "--compression=zstd").message
    assert "gzip" in refused("--no-push", "--compression=gzp").hint
    assert (
        options("--no-push", "--image-format=oci", "--compression=zstd", "--compression-level=7").compression.level == 7
    )


@pytest.mark.parametrize(
    ("kind", "text", "level"), [("gzip", "0", -1), ("gzip", "-5", -1), ("gzip", "9", 9), ("zstd", "22", 22)]
)
def test_compression_levels(context: pathlib.Path, kind: str, text: str, level: int) -> None:
    assert options("--no-push", f"--compression={kind}", f"--compression-level={text}").compression.level == level


def test_a_level_that_does_not_exist(context: pathlib.Path) -> None:
    assert "highest level of gzip is 9" in refused("--no-push", "--compression-level=10").message


def test_cache_without_a_place_for_it(context: pathlib.Path) -> None:
    message = "cache flags invalid: if using cache with --no-push, specify cache repo with --cache-repo"
    assert refused("--no-push", "--cache").message == message
    assert options("--no-push", "--cache", "--cache-repo=a/b").no_push


def test_times(context: pathlib.Path) -> None:
    assert options("--no-push", "--reproducible").source_date_epoch == 0
    assert options("--no-push", SOURCE_DATE_EPOCH="1700000000").source_date_epoch == 1_700_000_000
    assert options("--no-push", "--source-date-epoch=5", SOURCE_DATE_EPOCH="6").source_date_epoch == 5
    assert "seconds since 1970" in refused("--no-push", SOURCE_DATE_EPOCH="yesterday").message


def test_working_directory(context: pathlib.Path) -> None:
    assert options("--no-push", KANIKO_DIR="/k").work_dir == "/k"
    assert options("--no-push", "--kaniko-dir=/flag", KANIKO_DIR="/k").work_dir == "/flag"
    assert options("--no-push", "--work-dir=here", "--kaniko-dir=/flag").work_dir == str(context.parent / "here")


def test_named_contexts(context: pathlib.Path) -> None:
    found = options(
        "--no-push",
        "--build-context=a=sub",
        "--build-context=b=oci-layout://sub:tag",
        "--build-context",
        "c=docker-image://x/y:1",
    ).named_contexts
    assert found == {
        "a": str(context.parent / "sub"),
        "b": f"oci-layout://{context.parent}/sub:tag",
        "c": "docker-image://x/y:1",
    }
    assert "git" in refused("--no-push", "--build-context=d=git://x").message


def test_secrets(context: pathlib.Path) -> None:
    file = context.parent / "token"
    file.write_text("x")
    found = options(
        "--no-push",
        "--secret=id=token",
        "--secret",
        "id=b,env=V",
        "--secret=id=V",
        "--secret=type=file,id=c,source=token",
        V="1",
    )
    assert found.secrets == (
        SecretSource("token", "file", str(file)),
        SecretSource("b", "env", "V"),
        SecretSource("V", "env", "V"),
        SecretSource("c", "file", str(file)),
    )


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("src=x", "an id is needed"),
        ("id=a,id=b", "given twice"),
        ("id=a,src=b,env=c", "exclude each other"),
        ("id=a,colour=red", "unexpected field"),
        ("id=a,type=tape", "type is file or env"),
        ("id=a,env=NOT_SET", "NOT_SET is not set"),
        ("id=missing", "is not a file"),
    ],
)
def test_secrets_that_cannot_be(context: pathlib.Path, text: str, part: str) -> None:
    assert part in refused("--no-push", "--secret", text).message


def test_ssh(context: pathlib.Path) -> None:
    assert options("--no-push", "--ssh=default", SSH_AUTH_SOCK="/a").ssh == {"default": "/a"}
    assert options("--no-push", "--ssh=x=/b").ssh == {"x": "/b"}
    assert "SSH_AUTH_SOCK" in refused("--no-push", "--ssh=default").message


def test_flags_without_effect_are_told(context: pathlib.Path) -> None:
    found = values("--cache", "--use-new-run=false", "--compressed-caching=false", "--skip-unused-stages")
    told = notes(found, EXECUTOR_FLAGS)
    assert [text.split()[0] for text in told] == ["--skip-unused-stages", "--cache"]


def test_flags_that_would_do_something_else_are_refused(context: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="--dryrun"):
        notes(values("--dryrun"), EXECUTOR_FLAGS)
    assert notes(values("--dryrun=false"), EXECUTOR_FLAGS) == []


def test_registry_options() -> None:
    found = registry_options(
        values(
            "--insecure",
            "--insecure-registry=a:5000",
            "--insecure-registry=b",
            "--registry-certificate=a=/ca.pem",
            "--registry-client-cert=a=/c.pem,/k.pem",
            "--registry-map=quay.io=m1/q;quay.io=m2",
            "--registry-mirror=mirror.one",
            "--push-retry=3",
            KANIKO_REGISTRY_MIRROR="mirror.two",
            KANIKO_REGISTRY_MAP="quay.io=m3",
        )
    )
    assert found.insecure
    assert not found.insecure_pull
    assert found.insecure_registries == ("a:5000", "b")
    assert found.certificates == {"a": "/ca.pem"}
    assert found.client_certificates == {"a": ("/c.pem", "/k.pem")}
    assert found.maps == {"quay.io": ("m1/q", "m2", "m3"), "index.docker.io": ("mirror.one", "mirror.two")}
    assert found.push_retries == 3


def test_a_client_certificate_needs_its_key() -> None:
    with pytest.raises(UsageError, match="a certificate and a key"):
        registry_options(values("--registry-client-cert=a=/c.pem"))
