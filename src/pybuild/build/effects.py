"""What the metadata instructions do to an image's config, with BuildKit's results.

All functions take the ``config`` section of the image's config document (a dict, changed in place) and an expanded instruction.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

from pybuild.dockerfile.instructions import (
    Cmd,
    Command,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Onbuild,
    Shell,
    Stopsignal,
    User,
    Volume,
)
from pybuild.dockerfile.ports import expand_ports
from pybuild.dockerfile.signals import check_signal
from pybuild.errors import DockerfileError

Section = dict[str, Any]
DEFAULT_SHELL = ("/bin/sh", "-c")


def environment(section: Section) -> dict[str, str]:
    """The ``Env`` list as a dict, in order."""
    return dict(item.partition("=")[::2] for item in section.get("Env") or ())


def set_environment(section: Section, env: dict[str, str]) -> None:
    section["Env"] = [f"{k}={v}" for k, v in env.items()]


def shell_of(section: Section) -> tuple[str, ...]:
    """The shell that shell forms use."""
    return tuple(section.get("Shell") or DEFAULT_SHELL)


def command_line(section: Section, command: Command) -> list[str]:
    """The argument list that a CMD, ENTRYPOINT or RUN stands for."""
    if not command.shell:
        return list(command.argv)
    return [*shell_of(section), *command.argv]


def join_workdir(current: str, path: str) -> str:
    """WORKDIR's new value: relative paths join the previous one, the result is clean and absolute."""
    joined = posixpath.normpath(posixpath.join("/", current or "/", path))
    return "/" + joined.lstrip("/")


def apply_env(section: Section, instruction: Env) -> None:
    env = environment(section)
    env.update({p.key: p.value for p in instruction.pairs})
    set_environment(section, env)


def apply_label(section: Section, instruction: Label) -> None:
    labels = dict(section.get("Labels") or {})
    labels.update({p.key: p.value for p in instruction.pairs})
    section["Labels"] = labels


def apply_cmd(section: Section, instruction: Cmd) -> None:
    section["Cmd"] = command_line(section, instruction.command)
    # what BuildKit writes for a shell form; Docker reads it on Windows only
    if instruction.command.shell:
        section["ArgsEscaped"] = True
    else:
        section.pop("ArgsEscaped", None)


def apply_entrypoint(section: Section, instruction: Entrypoint) -> None:
    section["Entrypoint"] = command_line(section, instruction.command)


def apply_expose(section: Section, instruction: Expose) -> None:
    ports = dict(section.get("ExposedPorts") or {})
    for word in instruction.ports:
        try:
            ports.update({p: {} for p in expand_ports(word)})
        except ValueError as e:
            raise DockerfileError(str(e), place=instruction.place) from None
    section["ExposedPorts"] = dict(sorted(ports.items()))


def apply_volume(section: Section, instruction: Volume) -> None:
    volumes = dict(section.get("Volumes") or {})
    for path in instruction.paths:
        if not path:
            raise DockerfileError("VOLUME specified can not be an empty string", place=instruction.place)
        volumes[path] = {}
    section["Volumes"] = volumes


def apply_user(section: Section, instruction: User) -> None:
    section["User"] = instruction.user


def apply_stopsignal(section: Section, instruction: Stopsignal) -> None:
    try:
        check_signal(instruction.signal)
    except ValueError as e:
        raise DockerfileError(str(e), place=instruction.place) from None
    section["StopSignal"] = instruction.signal


def apply_shell(section: Section, instruction: Shell) -> None:
    section["Shell"] = list(instruction.argv)


def apply_onbuild(section: Section, instruction: Onbuild) -> None:
    section["OnBuild"] = [*(section.get("OnBuild") or ()), instruction.trigger]


def apply_healthcheck(section: Section, instruction: Healthcheck) -> None:
    check: dict[str, Any] = {"Test": list(instruction.test)}
    for key, value in (
        ("Interval", instruction.interval),
        ("Timeout", instruction.timeout),
        ("StartPeriod", instruction.start_period),
        ("StartInterval", instruction.start_interval),
        ("Retries", instruction.retries),
    ):
        if value:
            check[key] = value
    section["Healthcheck"] = check


_EFFECTS: dict[type[Instruction], Callable[[Section, Any], None]] = {
    Env: apply_env,
    Label: apply_label,
    Cmd: apply_cmd,
    Entrypoint: apply_entrypoint,
    Expose: apply_expose,
    Volume: apply_volume,
    User: apply_user,
    Stopsignal: apply_stopsignal,
    Shell: apply_shell,
    Onbuild: apply_onbuild,
    Healthcheck: apply_healthcheck,
}


def apply_metadata(section: Section, instruction: Instruction) -> bool:
    """Carry out a metadata instruction (already expanded); false when it is none of those."""
    effect = _EFFECTS.get(type(instruction))
    if effect is None:
        return False
    effect(section, instruction)
    return True


def clear_inherited_cmd(section: Section, *, sets_entrypoint: bool, sets_cmd: bool) -> None:
    """A stage that sets ENTRYPOINT but not CMD does not keep the base's CMD."""
    if sets_entrypoint and not sets_cmd:
        section.pop("Cmd", None)
