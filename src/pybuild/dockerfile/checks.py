"""Build checks: findings that are no errors. Names and messages of the rules are BuildKit's.

``check_dockerfile`` runs the rules that the file alone decides. The variables of a stage are known only when it begins from scratch;
for the others ``undefined_variables`` is for the build, which knows the base's. ``ignored_sources`` needs the ignore rules,
``base_platform`` the base image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pybuild.dockerfile.check_options import CheckOptions, comment_skips, parse_check
from pybuild.dockerfile.expand import missing_names
from pybuild.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Dockerfile,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Shell,
    Stage,
    Warning_,
    Workdir,
)
from pybuild.dockerfile.ports import parse_port
from pybuild.dockerfile.suggest import closest
from pybuild.dockerfile.text_error import TextError
from pybuild.dockerfile.words import expand, expand_words, process
from pybuild.errors import DockerfileError, Place

if TYPE_CHECKING:
    from pybuild._native.match import Matcher

#: rules that run only when ``experimental=`` names them
EXPERIMENTAL = frozenset(("CopyIgnoredFile", "InvalidDefinitionDescription"))
RULES = (
    "StageNameCasing", "FromAsCasing", "NoEmptyContinuation", "ConsistentInstructionCasing", "DuplicateStageName", "ReservedStageName",
    "JSONArgsRecommended", "MaintainerDeprecated", "UndefinedArgInFrom", "WorkdirRelativePath", "UndefinedVar",
    "MultipleInstructionsDisallowed", "LegacyKeyValueFormat", "InvalidBaseImagePlatform", "RedundantTargetPlatform",
    "SecretsUsedInArgOrEnv", "InvalidDefaultArgInFrom", "FromPlatformFlagConstDisallowed", "CopyIgnoredFile", "ExposeProtoCasing",
    "ExposeInvalidFormat", "InvalidDefinitionDescription",
)  # fmt: skip
PLATFORM_ARGS = (
    "TARGETSTAGE",
    *(f"{p}{n}" for p in ("BUILD", "TARGET") for n in ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT")),
)
_PROXY_ARGS = frozenset(p for n in ("HTTP", "HTTPS", "FTP", "NO", "ALL") for p in (f"{n}_PROXY", f"{n}_PROXY".lower()))
_RESERVED = ("scratch", "context")
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)
_REFERENCE = re.compile(
    r"(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::\w[\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
#: what the platform arguments are taken for where only their presence counts
_ASSUMED = {name: "linux/amd64" if name.endswith("PLATFORM") else "linux" for name in PLATFORM_ARGS}
_OSES = frozenset(
    ("linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "wasi", "js", "aix", "plan9", "android")
)
_ARCHITECTURES = frozenset(
    (
        "amd64",
        "arm64",
        "arm",
        "386",
        "ppc64le",
        "ppc64",
        "s390x",
        "riscv64",
        "mips64le",
        "mips64",
        "mipsle",
        "mips",
        "loong64",
        "wasm",
    )
)


def rule_url(rule: str) -> str:
    """The page that explains a rule."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", rule).lower()
    return f"https://docs.docker.com/go/dockerfile/rule/{words}/"


def check_options(dockerfile: Dockerfile) -> CheckOptions:
    """What the file's ``# check=`` directive says; ``DockerfileError`` when it cannot be read."""
    try:
        return parse_check(dockerfile.directives.get("check", ""))
    except TextError as e:
        raise DockerfileError(
            f"failed to parse check options: {e.message}", place=Place(dockerfile.file, 1), hint=e.hint
        ) from None


def check_dockerfile(dockerfile: Dockerfile, options: CheckOptions | None = None) -> tuple[Warning_, ...]:
    """All findings, by line. ``dockerfile.warnings`` are taken over; ``options`` replace those of the file's own directive."""
    options = check_options(dockerfile) if options is None else options
    silent = {
        i.place.line: skips
        for i in every_instruction(dockerfile)
        if i.comments and (skips := comment_skips(i.comments))
    }
    found = [*dockerfile.warnings]
    found += casing(dockerfile)
    found += stage_names(dockerfile)
    found += from_lines(dockerfile)
    found += descriptions(dockerfile)
    above = parents(dockerfile)
    states: list[Before] = []
    for stage, parent in zip(dockerfile.stages, above, strict=True):
        state = Before() if parent < 0 else replace(states[parent])
        found += stage_rules(stage, state)
        states.append(state)
    found += known_variables(dockerfile, above)
    wanted = [
        w
        for w in found
        if options.wants(w.rule, experimental=w.rule in EXPERIMENTAL)
        and (w.place.line not in silent or silent[w.place.line].wants(w.rule))
    ]
    return tuple(sorted(wanted, key=lambda w: w.place.line))


def fail_on_findings(warnings: Iterable[Warning_], options: CheckOptions) -> None:
    """With ``error=true``, findings are an error."""
    found = list(warnings)
    if not options.error or not found:
        return
    rules = ", ".join(sorted({w.rule for w in found}))
    first = found[0]
    raise DockerfileError(
        f"lint violation found for rules: {rules}",
        place=first.place,
        hint=f"{first.rule}: {first.message}; the file says check=error=true",
    )


def every_instruction(dockerfile: Dockerfile) -> Iterator[Instruction]:
    yield from dockerfile.global_args
    for stage in dockerfile.stages:
        yield stage.from_
        yield from stage.instructions


def written_name(instruction: Instruction) -> str:
    """The instruction's first word as written."""
    return instruction.text.split(None, 1)[0]


def parents(dockerfile: Dockerfile) -> list[int]:
    """For each stage the index of the one it is FROM, -1 when that is none of the file."""
    known: dict[str, int] = {}
    found = []
    for stage in dockerfile.stages:
        found.append(known.get(stage.from_.image.lower(), -1))
        if stage.name:
            known[stage.name] = stage.index
    return found


# --- rules about names and case -----------------------------------------------------------------------------------------


def casing(dockerfile: Dockerfile) -> Iterator[Warning_]:
    """ConsistentInstructionCasing, StageNameCasing, FromAsCasing."""
    names = [(written_name(i), i) for stage in dockerfile.stages for i in (stage.from_, *stage.instructions)]
    lower = sum(name.islower() for name, _ in names)
    upper = sum(name.isupper() for name, _ in names)
    majority = "lowercase" if lower > upper else "uppercase"
    for name, instruction in names:
        if name != (name.lower() if majority == "lowercase" else name.upper()):
            message = f"Command '{name}' should match the case of the command majority ({majority})"
            yield Warning_("ConsistentInstructionCasing", message, instruction.place)
    for stage in dockerfile.stages:
        if not stage.name:
            continue
        words = stage.from_.text.split()
        name, keyword, command = words[-1], words[-2], words[0]
        if name != name.lower():
            yield Warning_("StageNameCasing", f"Stage name '{name}' should be lowercase", stage.from_.place)
        if (command.islower() and not keyword.islower()) or (command.isupper() and not keyword.isupper()):
            yield Warning_(
                "FromAsCasing", f"'{keyword}' and '{command}' keywords' casing do not match", stage.from_.place
            )


def stage_names(dockerfile: Dockerfile) -> Iterator[Warning_]:
    """DuplicateStageName, ReservedStageName."""
    seen: set[str] = set()
    for stage in dockerfile.stages:
        if not stage.name:
            continue
        if stage.name in _RESERVED:
            message = f'Stage name should not use the same name as reserved stage "{stage.name}"'
            yield Warning_("ReservedStageName", message, stage.from_.place)
        if stage.name in seen:
            message = f'Duplicate stage name "{stage.name}", stage names should be unique'
            yield Warning_("DuplicateStageName", message, stage.from_.place)
        seen.add(stage.name)


def descriptions(dockerfile: Dockerfile) -> Iterator[Warning_]:
    """InvalidDefinitionDescription: a comment right above an ARG or a named FROM should begin with its name."""
    for instruction in every_instruction(dockerfile):
        if isinstance(instruction, Arg):
            name, keys = "ARG", [p.key for p in instruction.pairs]
        elif isinstance(instruction, From) and instruction.name:
            name, keys = "FROM", [instruction.name]
        else:
            continue
        comments = [c for c in instruction.comments if not c.lower().startswith("check=")]
        if comments and comments[-1].split(" ")[0] not in keys:
            example = keys[0] if len(keys) == 1 else "<arg_key>"
            message = f"Comment for {name} should follow the format: `# {example} <description>`"
            yield Warning_("InvalidDefinitionDescription", message, instruction.place)


# --- rules about FROM ---------------------------------------------------------------------------------------------------


def global_values(dockerfile: Dockerfile) -> dict[str, str] | None:
    """Global ARGs with their defaults alone; ``None`` when one is malformed."""
    values = dict(_ASSUMED)
    for arg in dockerfile.global_args:
        for pair in arg.pairs:
            if pair.value is not None:
                try:
                    values[pair.key] = expand(pair.value, values, escape=dockerfile.escape)
                except TextError:
                    return None
    return values


def from_lines(dockerfile: Dockerfile) -> Iterator[Warning_]:
    """UndefinedArgInFrom, InvalidDefaultArgInFrom, RedundantTargetPlatform, FromPlatformFlagConstDisallowed."""
    values = global_values(dockerfile)
    declared = dict(_ASSUMED)
    for arg in dockerfile.global_args:
        declared.update({p.key: "" for p in arg.pairs})
    for stage in dockerfile.stages:
        place = stage.from_.place
        for missing in missing_names(stage.from_, declared, escape=dockerfile.escape):
            near = closest(missing, declared)
            hint = f" (did you mean {near}?)" if near else ""
            yield Warning_("UndefinedArgInFrom", f"FROM argument '{missing}' is not declared{hint}", place)
        if values is not None and "$" in stage.from_.image:
            try:
                name = expand(stage.from_.image, values, escape=dockerfile.escape)
            except TextError:
                name = ""
            if not _REFERENCE.fullmatch(name):
                message = f"Default value for ARG {stage.from_.image} results in empty or invalid base image name"
                yield Warning_("InvalidDefaultArgInFrom", message, place)
        if stage.from_.platform:
            yield from platform_flag(stage, dockerfile.escape)


def platform_flag(stage: Stage, escape: str) -> Iterator[Warning_]:
    text = stage.from_.platform
    try:
        found = process(text, _ASSUMED, escape=escape)
    except TextError:
        return
    if found.used == {"TARGETPLATFORM"} and not found.missing and found.text == _ASSUMED["TARGETPLATFORM"]:
        message = f"Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
        yield Warning_("RedundantTargetPlatform", message, stage.from_.place)
    if found.used or found.missing:
        return
    parts = found.text.lower().split("/")
    system = parts[0] if parts[0] in _OSES else "linux"
    machine = parts[1] if len(parts) > 1 else (parts[0] if parts[0] in _ARCHITECTURES else "")
    if not parts[0] or system in stage.name or (machine and machine in stage.name):
        return
    message = f'FROM --platform flag should not use constant value "{found.text}"'
    yield Warning_("FromPlatformFlagConstDisallowed", message, stage.from_.place)


# --- rules about a stage's instructions ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Before:
    """What a stage and those it is FROM have set so far."""

    shell: bool = False
    workdir: bool = False


def stage_rules(stage: Stage, state: Before) -> Iterator[Warning_]:
    """JSONArgsRecommended, MaintainerDeprecated, WorkdirRelativePath, MultipleInstructionsDisallowed, LegacyKeyValueFormat,
    SecretsUsedInArgOrEnv, ExposeProtoCasing, ExposeInvalidFormat. ``state`` is brought up to date."""
    last: dict[type[Instruction], Instruction] = {}
    for instruction in stage.instructions:
        name = written_name(instruction)
        if isinstance(instruction, Cmd | Entrypoint | Healthcheck):
            if type(instruction) in last:
                message = f"Multiple {name} instructions should not be used in the same stage because only the last one will be used"
                yield Warning_("MultipleInstructionsDisallowed", message, last[type(instruction)].place)
            last[type(instruction)] = instruction
        match instruction:
            case Shell():
                state.shell = True
            case Cmd() | Entrypoint() if instruction.command.shell and not state.shell:
                message = f"JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
                yield Warning_("JSONArgsRecommended", message, instruction.place)
            case Maintainer():
                yield Warning_(
                    "MaintainerDeprecated",
                    "Maintainer instruction is deprecated in favor of using label",
                    instruction.place,
                )
            case Workdir():
                if not state.workdir and not instruction.path.lstrip("'\"").startswith(("/", "$")):
                    message = (
                        f'Relative workdir "{instruction.path}" can have unexpected results if the base image changes'
                    )
                    yield Warning_("WorkdirRelativePath", message, instruction.place)
                state.workdir = True
            case Env() | Label() | Arg():
                yield from key_values(instruction, name)
            case Expose():
                yield from exposed(instruction)
            case _:
                pass


def key_values(instruction: Env | Label | Arg, name: str) -> Iterator[Warning_]:
    if isinstance(instruction, Env | Label) and instruction.legacy:
        message = f'"{name} key=value" should be used instead of legacy "{name} key value" format'
        yield Warning_("LegacyKeyValueFormat", message, instruction.place)
    if isinstance(instruction, Label):
        return
    kind = "ENV" if isinstance(instruction, Env) else "ARG"
    for pair in instruction.pairs:
        if _SECRET.search(pair.key) and not _NO_SECRET.search(pair.key):
            message = f'Do not use ARG or ENV instructions for sensitive data ({kind} "{pair.key}")'
            yield Warning_("SecretsUsedInArgOrEnv", message, instruction.place)


def exposed(instruction: Expose) -> Iterator[Warning_]:
    for port in instruction.ports:
        if "$" in port:
            continue
        try:
            specs = [(word, parse_port(word)) for word in expand_words(port, {})]
        except TextError:
            continue
        for word, spec in specs:
            if spec.protocol != spec.protocol.lower():
                message = f"Defined protocol '{word}' in EXPOSE instruction should be lowercase"
                yield Warning_("ExposeProtoCasing", message, instruction.place)
            if spec.address or spec.host:
                message = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
                yield Warning_("ExposeInvalidFormat", message, instruction.place)


# --- variables ----------------------------------------------------------------------------------------------------------


def undefined_variables(
    instruction: Instruction, env: Mapping[str, str], declared: Iterable[str] = (), *, escape: str = "\\"
) -> list[Warning_]:
    """UndefinedVar: variables that an instruction uses and that neither ENV nor ARG (``declared``: ARGs, also those without a value)
    brought. ``env`` is what it is expanded with."""
    if isinstance(instruction, Arg | From):
        return []
    names = {*declared, *_PROXY_ARGS}
    found = []
    for missing in missing_names(instruction, env, escape=escape):
        if missing in names or not (missing[:1].isalpha() or missing[:1] == "_"):
            continue
        near = closest(missing, env)
        hint = f" (did you mean ${near}?)" if near else ""
        found.append(Warning_("UndefinedVar", f"Usage of undefined variable '${missing}'{hint}", instruction.place))
    return found


def known_variables(dockerfile: Dockerfile, above: Sequence[int]) -> Iterator[Warning_]:
    """UndefinedVar in the stages whose variables are known: those that come from scratch. ``above``: ``parents``."""
    known: dict[int, tuple[dict[str, str], set[str]]] = {}
    for stage, parent in zip(dockerfile.stages, above, strict=True):
        if parent < 0 and stage.from_.image.lower() == "scratch":
            env, declared = {"PATH": ""}, set[str]()
        elif parent in known:
            env, declared = dict(known[parent][0]), set(known[parent][1])
        else:
            continue
        for instruction in stage.instructions:
            yield from undefined_variables(instruction, env, declared, escape=dockerfile.escape)
            if isinstance(instruction, Env):
                env.update({p.key: "" for p in instruction.pairs})
            elif isinstance(instruction, Arg):
                declared |= {p.key for p in instruction.pairs}
                env.update({p.key: "" for p in instruction.pairs if p.value is not None})
        if stage.name:
            known[stage.index] = env, declared


# --- rules that need more than the file ---------------------------------------------------------------------------------


def ignored_sources(instruction: Copy | Add, ignore: Matcher) -> list[Warning_]:
    """CopyIgnoredFile: sources of an expanded COPY or ADD from the context that the ignore rules leave out. Nothing is said when
    a rule begins with ``!``, as in BuildKit."""
    if ignore.negations or (isinstance(instruction, Copy) and instruction.from_):
        return []
    name = "Copy" if isinstance(instruction, Copy) else "Add"
    found = []
    for source in instruction.sources:
        path = source.lstrip("/").removeprefix("./")
        if "://" not in source and path and ignore.matches(path):
            message = f'Attempting to {name} file "{source}" that is excluded by .dockerignore'
            found.append(Warning_("CopyIgnoredFile", message, instruction.place))
    return found


def base_platform(image: str, expected: str, actual: str, place: Place) -> list[Warning_]:
    """InvalidBaseImagePlatform, for platforms as ``os/architecture`` texts."""
    if expected.split("/")[:2] == actual.split("/")[:2]:
        return []
    message = f'Base image {image} was pulled with platform "{actual}", expected "{expected}" for current build'
    return [Warning_("InvalidBaseImagePlatform", message, place)]
