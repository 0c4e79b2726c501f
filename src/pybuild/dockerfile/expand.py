"""Which fields of an instruction hold variables, and the instruction with them expanded.

Source: the Dockerfile reference ("Environment replacement") and BuildKit. ARG keeps its defaults: one that is overridden is not
looked at, so the build expands them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from pybuild.dockerfile.instructions import (
    Add,
    Arg,
    Copy,
    Env,
    Expose,
    From,
    Heredoc,
    Instruction,
    KeyValue,
    Label,
    Run,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from pybuild.dockerfile.mounts import expand_mount
from pybuild.dockerfile.text_error import TextError
from pybuild.dockerfile.words import expand, expand_heredoc, expand_words, process
from pybuild.errors import DockerfileError

Expander = Callable[[str], str]
InstructionT = TypeVar("InstructionT", bound=Instruction)


def expand_instruction(instruction: InstructionT, env: Mapping[str, str], *, escape: str = "\\") -> InstructionT:
    """The instruction with the variables of its fields replaced by those of ``env``, quotes removed.

    COPY and ADD: sources, destination, ``--chown``, ``--chmod``, ``--checksum``, bodies of here-documents whose mark is not quoted.
    ENV and LABEL: names and values. EXPOSE: each word, which may become several. VOLUME, USER, WORKDIR, STOPSIGNAL: their words.
    RUN: the fields of its mounts but ``from``. Nothing else is expanded. All use ``env`` as it is before the instruction.
    ``DockerfileError`` with the instruction's place when a word is malformed or a mount is refused.
    """
    word: list[str] = [""]

    def one(text: str) -> str:
        word[0] = text
        return expand(text, env, escape=escape)

    try:
        return _expand(instruction, env, escape, one)
    except TextError as e:
        message = f"failed to process {word[0]!r}: {e.message}" if word[0] else e.message
        raise DockerfileError(message, place=instruction.place, hint=e.hint) from None


def _expand(instruction: InstructionT, env: Mapping[str, str], escape: str, one: Expander) -> InstructionT:
    found: Instruction = instruction
    match instruction:
        case Env() | Label():
            found = replace(instruction, pairs=tuple(KeyValue(one(p.key), one(p.value)) for p in instruction.pairs))
        case Copy():
            found = replace(
                instruction,
                sources=tuple(map(one, instruction.sources)),
                destination=one(instruction.destination),
                chown=one(instruction.chown),
                chmod=one(instruction.chmod),
                heredocs=_heredocs(instruction.heredocs, env),
            )
        case Add():
            found = replace(
                instruction,
                sources=tuple(map(one, instruction.sources)),
                destination=one(instruction.destination),
                chown=one(instruction.chown),
                chmod=one(instruction.chmod),
                checksum=one(instruction.checksum),
                heredocs=_heredocs(instruction.heredocs, env),
            )
        case Run():
            if instruction.mounts:
                found = replace(
                    instruction, mounts=tuple(expand_mount(m, env, escape=escape) for m in instruction.mounts)
                )
        case Expose():
            ports = (w for port in instruction.ports for w in expand_words(port, env, escape=escape))
            found = replace(instruction, ports=tuple(ports))
        case Volume():
            found = replace(instruction, paths=tuple(map(one, instruction.paths)))
        case User():
            found = replace(instruction, user=one(instruction.user))
        case Workdir():
            found = replace(instruction, path=one(instruction.path))
        case Stopsignal():
            found = replace(instruction, signal=one(instruction.signal))
        case _:
            pass
    return found  # type: ignore[return-value]


def _heredocs(heredocs: tuple[Heredoc, ...], env: Mapping[str, str]) -> tuple[Heredoc, ...]:
    if not any(h.expand for h in heredocs):
        return heredocs
    return tuple(replace(h, content=expand_heredoc(h.content, env)) if h.expand else h for h in heredocs)


def expandable_words(instruction: Instruction) -> list[str]:
    """The words of an instruction that ``expand_instruction`` expands (without here-documents), ARG defaults and FROM's included."""
    match instruction:
        case Env() | Label():
            return [w for p in instruction.pairs for w in (p.key, p.value)]
        case Arg():
            return [p.value for p in instruction.pairs if p.value is not None]
        case From():
            return [instruction.image, instruction.platform]
        case Add():
            return [
                *instruction.sources,
                instruction.destination,
                instruction.chown,
                instruction.chmod,
                instruction.checksum,
            ]
        case Copy():
            return [*instruction.sources, instruction.destination, instruction.chown, instruction.chmod]
        case Run():
            return [m.raw for m in instruction.mounts]
        case Expose():
            return list(instruction.ports)
        case Volume():
            return list(instruction.paths)
        case User():
            return [instruction.user]
        case Workdir():
            return [instruction.path]
        case Stopsignal():
            return [instruction.signal]
    return []


def missing_names(instruction: Instruction, env: Mapping[str, str], *, escape: str = "\\") -> list[str]:
    """Variables that an instruction uses and ``env`` does not have, sorted; malformed words count as using none."""
    words: Iterable[str] = expandable_words(instruction)
    found: set[str] = set()
    for word in words:
        if "$" in word:
            try:
                found |= process(word, env, escape=escape).missing
            except TextError:
                continue
    if isinstance(instruction, Add | Copy):
        for heredoc in instruction.heredocs:
            if heredoc.expand and "$" in heredoc.content:
                try:
                    found |= process(heredoc.content, env, quotes=False).missing
                except TextError:
                    continue
    return sorted(found)
