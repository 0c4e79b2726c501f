"""Variables of a build: global ARGs, and ARG and ENV within a stage, by the order of lines as BuildKit's code has it.

A later ARG with a value hides an earlier ENV of the same name for RUN and expansion; it never reaches the image's config.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pybuild.dockerfile.instructions import Arg, Dockerfile
from pybuild.dockerfile.words import expand
from pybuild.errors import DockerfileError, Place
from pybuild.oci.platform import Platform

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
PROXY_ARGS = frozenset(_PROXIES) | frozenset(p.lower() for p in _PROXIES)
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def expand_at(word: str, env: Mapping[str, str], escape: str, place: Place) -> str:
    """Expand a word; an error in it names the place."""
    try:
        return expand(word, env, escape=escape)
    except ValueError as e:
        raise DockerfileError(f"failed to process {word!r}: {e}", place=place) from None


def platform_args(build: Platform, target: Platform, target_stage: str) -> dict[str, str]:
    """The predefined platform ARGs. ``TARGETSTAGE`` is ``default`` when no target was named."""
    found: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        found[f"{prefix}PLATFORM"] = str(platform)
        found[f"{prefix}OS"] = platform.os
        found[f"{prefix}OSVERSION"] = platform.os_version
        found[f"{prefix}ARCH"] = platform.architecture
        found[f"{prefix}VARIANT"] = platform.variant
    found["TARGETSTAGE"] = target_stage or "default"
    return found


@dataclass(frozen=True, slots=True)
class GlobalScope:
    """Values that FROM lines can use, and that a bare ``ARG NAME`` of a stage takes over."""

    values: Mapping[str, str]
    build_args: Mapping[str, str]
    escape: str

    def expand(self, word: str, place: Place) -> str:
        return expand_at(word, self.values, self.escape, place)


def global_scope(
    dockerfile: Dockerfile, build_args: Mapping[str, str], build: Platform, target: Platform, target_stage: str
) -> GlobalScope:
    """Evaluate the ARGs before the first FROM, in order; ``--build-arg`` beats defaults, platform ARGs may be overridden too."""
    values = platform_args(build, target, target_stage)
    values.update({k: build_args[k] for k in values if k in build_args})
    for arg in dockerfile.global_args:
        for pair in arg.pairs:
            if pair.key in build_args:
                values[pair.key] = build_args[pair.key]
            elif pair.value is not None:
                values[pair.key] = expand_at(pair.value, values, dockerfile.escape, arg.place)
    return GlobalScope(values, build_args, dockerfile.escape)


@dataclass(slots=True)
class StageScope:
    """The variables at a point of a stage. ``env`` is what expansion and RUN see (ENV and ARG together); ``declared`` are the
    ARGs that have a value, in order of declaration, as the history of RUN shows them."""

    scope: GlobalScope
    env: dict[str, str] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)

    def copy(self) -> StageScope:
        return StageScope(self.scope, dict(self.env), dict(self.declared))

    def expand(self, word: str, place: Place) -> str:
        return expand_at(word, self.env, self.scope.escape, place)

    def declare(self, arg: Arg) -> None:
        """Carry out an ARG instruction. Values: ``--build-arg``, then the default, then the global value; none leaves it unset.
        A default that is not used is not expanded, so an error in it is not raised."""
        before = dict(self.env)
        for pair in arg.pairs:
            value: str | None
            if pair.key in self.scope.build_args:
                value = self.scope.build_args[pair.key]
            elif pair.value is not None:
                value = expand_at(pair.value, before, self.scope.escape, arg.place)
            else:
                value = self.scope.values.get(pair.key)
            if value is not None:
                before[pair.key] = self.env[pair.key] = self.declared[pair.key] = value

    def run_environment(self) -> dict[str, str]:
        """What a RUN command gets: ENV and ARG, the proxy ``--build-arg``s without declaration, and a default PATH."""
        found = {k: v for k, v in self.scope.build_args.items() if k in PROXY_ARGS}
        found.update(self.env)
        found.setdefault("PATH", DEFAULT_PATH)
        return found
