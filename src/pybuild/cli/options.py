"""From flags and environment to ``BuildOptions``. The order of the checks is kaniko's, so that the same error comes first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from pybuild.cli.flags import Flag
from pybuild.cli.pflag import Values, add_to_map
from pybuild.cli.values import parse_bool, parse_map
from pybuild.errors import ContextError, PybuildError, UsageError

if TYPE_CHECKING:
    from pybuild.build.options import BuildOptions
    from pybuild.oci.platform import Platform
    from pybuild.oci.reference import Reference

_SCRATCH_VARIABLES = ("KANIKO_PRESERVE_CONTEXT", "KANIKO_PRE_CLEANUP", "KANIKO_CLEANUP")


def apply_environment(values: Values, environment: Mapping[str, str]) -> None:
    """What the environment says about flags: ``KANIKO_NO_PUSH`` overrules its flag, mirrors add to theirs, others are defaults."""
    if "KANIKO_NO_PUSH" in environment:
        values.values["no-push"] = boolean("KANIKO_NO_PUSH", environment)
    if environment.get("KANIKO_REGISTRY_MIRROR"):
        values.values["registry-mirror"] = [*values.values["registry-mirror"], environment["KANIKO_REGISTRY_MIRROR"]]
    if environment.get("KANIKO_REGISTRY_MAP"):
        try:
            add_to_map(values.values["registry-map"], parse_map(environment["KANIKO_REGISTRY_MAP"]))
        except ValueError as e:
            raise UsageError(f"KANIKO_REGISTRY_MAP: {e}") from None
    for name in _SCRATCH_VARIABLES:
        flag = name.removeprefix("KANIKO_").lower().replace("_", "-")
        if environment.get(name) and flag not in values.given:
            values.values[flag] = boolean(name, environment)
    for flag, name in (("kaniko-dir", "KANIKO_DIR"), ("source-date-epoch", "SOURCE_DATE_EPOCH")):
        if environment.get(name) and flag not in values.given:
            values.values[flag] = environment[name]


def boolean(name: str, environment: Mapping[str, str]) -> bool:
    try:
        return parse_bool(environment[name])
    except ValueError as e:
        raise UsageError(f"{name}: {e}", hint="write true or false") from None


def notes(values: Values, flags: tuple[Flag, ...]) -> list[str]:
    """Warnings for flags that were given and change nothing. ``UsageError`` for one that is refused."""
    found = []
    for flag in flags:
        if flag.status == "works" or flag.name not in values.given:
            continue
        if flag.kind == "bool" and not values.on(flag.name):
            continue
        if flag.status == "refused":
            raise UsageError(f"--{flag.name} is not supported: {flag.note}")
        if not (flag.kind == "bool" and flag.default == "true"):
            found.append(f"--{flag.name} has no effect: {flag.note}")
    return found


def build_options(values: Values, environment: Mapping[str, str]) -> BuildOptions:
    """Check everything and make the options. ``UsageError``, or ``ContextError`` for context and Dockerfile."""
    from pybuild.build.options import BuildOptions
    from pybuild.cli.secrets import parse_secrets, parse_ssh
    from pybuild.context.resolve import absolute, find_dockerfile, resolve
    from pybuild.layer.types import Compression

    platform = target_platform(values.text("custom-platform"))
    secrets = parse_secrets(values.texts("secret"), environment)
    ssh = parse_ssh(values.texts("ssh"), environment)
    build_args = build_arguments(values.texts("build-arg"), environment)
    if not values.on("no-push") and not values.on("check") and not values.texts("destination"):
        raise UsageError("you must provide --destination, or use --no-push")
    destinations = tuple(destination(text) for text in values.texts("destination"))
    image_format, compression = formats(values)
    check_cache_flags(values)
    labels = parse_labels(values.texts("label"))
    snapshot_mode = choice(values, "snapshot-mode", ("full", "redo", "time"), "{} is not a valid snapshot mode")
    isolation = choice(
        values, "isolation", ("auto", "namespaces", "chroot", "in-place"), "{} is not a kind of isolation"
    )
    epoch = source_date_epoch(values)
    try:
        context = resolve(
            values.text("context"), bucket=values.text("bucket"), sub_path=values.text("context-sub-path")
        )
    except ContextError as e:
        raise ContextError(f"error resolving source context: {e.message}", hint=e.hint) from None
    try:
        dockerfile = find_dockerfile(values.text("dockerfile"), context)
    except ContextError as e:
        raise ContextError(f"error resolving dockerfile path: {e.message}", hint=e.hint) from None
    name_file = output_path(values, "image-name-with-digest-file")
    name_tag_file = output_path(values, "image-name-tag-with-digest-file")
    if (name_file or name_tag_file) and not destinations:
        raise UsageError("you must provide --destination if setting ImageNameDigestFile")
    return BuildOptions(
        context=context.root,
        dockerfile=dockerfile,
        dockerfile_name=values.text("dockerfile"),
        destinations=destinations,
        tags=tuple(tag(text) for text in values.texts("destination")),
        build_args=build_args,
        target=next(iter(values.texts("target")), ""),
        labels=labels,
        annotations=values.pairs("annotation"),
        named_contexts=named_contexts(values.pairs("build-context")),
        platform=platform,
        secrets=secrets,
        ssh=ssh,
        no_push=values.on("no-push"),
        tar_path=output_path(values, "tar-path"),
        oci_layout_path=output_path(values, "oci-layout-path"),
        digest_file=output_path(values, "digest-file"),
        image_name_with_digest_file=name_file,
        image_name_tag_with_digest_file=name_tag_file,
        skip_push_permission_check=values.on("skip-push-permission-check"),
        snapshot_mode=cast("SnapshotMode", snapshot_mode),
        single_snapshot=values.on("single-snapshot"),
        ignore_paths=tuple(values.texts("ignore-path")),
        check_only=values.on("check"),
        compression=Compression(cast("CompressionKind", compression), compression_level(values, compression)),
        image_format=cast("ImageFormat", image_format),
        reproducible=values.on("reproducible"),
        source_date_epoch=epoch,
        isolation=cast("IsolationName", isolation),
        force=values.on("force"),
        work_dir=absolute(found) if (found := values.text("work-dir") or values.text("kaniko-dir")) else "",
        cache_dir=absolute(values.text("cache-dir")) if values.text("cache-dir") else "",
        threads=natural(values, "threads"),
        jobs=natural(values, "jobs"),
    )


def target_platform(text: str) -> Platform | None:
    if not text:
        return None
    from pybuild.oci.platform import parse_platform

    return parse_platform(text)


def destination(text: str) -> Reference:
    """Where to push: a tag, ``latest`` when there is none."""
    from pybuild.oci.reference import parse_reference

    try:
        reference = parse_reference(text)
    except PybuildError as e:
        raise UsageError(f"--destination {text}: {e.message}") from None
    if reference.digest:
        raise UsageError(f"--destination {text}: an image is pushed to a tag, not to a digest")
    return reference


def tag(text: str) -> str:
    """A destination as it was written, ``:latest`` added where it has no tag."""
    return text if ":" in text.rpartition("/")[2] else f"{text}:latest"


def build_arguments(texts: list[str], environment: Mapping[str, str]) -> dict[str, str]:
    """``--build-arg``; a bare name takes its value from the environment, empty when it is not set."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"--build-arg {text}: a name is needed")
        found[name] = value if equals else environment.get(name, "")
    return found


def parse_labels(texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"labels must be of the form key=value, got {text}")
        found[key] = value
    return found


def formats(values: Values) -> tuple[str, str]:
    """``--image-format`` and ``--compression``, checked against each other and the outputs."""
    image_format = choice(values, "image-format", ("", "docker", "oci"), "--image-format {}: it is docker or oci")
    compression = choice(values, "compression", ("gzip", "zstd"), "--compression {}: it is gzip or zstd")
    if image_format == "docker" and compression == "zstd":
        raise UsageError("a docker image cannot have zstd layers", hint="use --image-format=oci or --compression=gzip")
    if values.text("tar-path") and compression == "zstd":
        raise UsageError(
            "--tar-path cannot be written with zstd layers", hint="use --oci-layout-path or --compression=gzip"
        )
    return image_format, compression


def compression_level(values: Values, compression: str) -> int:
    """Levels from 1 up count; everything else is the default, as for kaniko."""
    level = values.number("compression-level")
    highest = 22 if compression == "zstd" else 9
    if level > highest:
        raise UsageError(f"--compression-level {level}: the highest level of {compression} is {highest}")
    return level if level > 0 else -1


def check_cache_flags(values: Values) -> None:
    if values.on("cache") and values.on("no-push") and not values.on("no-push-cache") and not values.text("cache-repo"):
        raise UsageError("cache flags invalid: if using cache with --no-push, specify cache repo with --cache-repo")


def source_date_epoch(values: Values) -> int | None:
    """The time for everything: given, 0 with ``--reproducible``, else none."""
    text = values.text("source-date-epoch")
    if not text:
        return 0 if values.on("reproducible") else None
    if not text.isdecimal() or not text.isascii() or int(text) >= 1 << 40:
        raise UsageError(f"source date epoch {text!r}: it is a number of seconds since 1970")
    return int(text)


def named_contexts(pairs: dict[str, str]) -> dict[str, str]:
    """``--build-context``: relative paths are made absolute."""
    from pybuild.context.resolve import absolute

    found = {}
    for name, where in pairs.items():
        scheme, mark, rest = where.partition("://")
        if not name or not where:
            raise UsageError(f"--build-context {name}={where}: a name and a place are needed")
        if not mark:
            found[name] = absolute(where)
        elif scheme == "oci-layout":
            found[name] = f"oci-layout://{absolute(rest)}"
        elif scheme == "dir":
            found[name] = absolute(rest)
        elif scheme == "docker-image":
            found[name] = where
        else:
            raise UsageError(f"--build-context {name}={where}: {scheme}:// is not supported in this version")
    return found


def choice(values: Values, name: str, allowed: tuple[str, ...], complaint: str) -> str:
    text = values.text(name)
    if text not in allowed:
        from pybuild.dockerfile.suggest import did_you_mean

        raise UsageError(complaint.format(text), hint=did_you_mean(text, [a for a in allowed if a]))
    return text


def natural(values: Values, name: str) -> int:
    number = values.number(name)
    if number < 0:
        raise UsageError(f"--{name} {number}: it cannot be negative")
    return number


def output_path(values: Values, name: str) -> str:
    """An output's absolute path, empty when it is not wanted."""
    text = values.text(name)
    if not text:
        return ""
    if text.startswith(("http://", "https://")):
        raise UsageError(f"--{name} {text}: a URL is not supported in this version", hint="write a file and send it")
    from pybuild.context.resolve import absolute

    return absolute(text)


if TYPE_CHECKING:
    from typing import Literal

    SnapshotMode = Literal["full", "redo", "time"]
    CompressionKind = Literal["gzip", "zstd", "none"]
    ImageFormat = Literal["", "docker", "oci"]
    IsolationName = Literal["auto", "namespaces", "chroot", "in-place"]
