"""What is fuzzed: functions of bytes that may raise nothing but the project's own errors, and that return soon.

Each takes arbitrary bytes; ``TARGETS`` names them. Used by the short run within the tests and by ``guided.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pybuild._native.match import Matcher, clean_path, go_match
from pybuild.dockerfile.checks import check_options
from pybuild.dockerfile.dump import dump
from pybuild.dockerfile.durations import parse_duration
from pybuild.dockerfile.expand import expand_instruction
from pybuild.dockerfile.flags import FLAGS, parse_flags
from pybuild.dockerfile.git_ref import parse_git_ref
from pybuild.dockerfile.ignore import ignore_matcher, read_ignore
from pybuild.dockerfile.instructions import Instruction
from pybuild.dockerfile.modes import parse_chmod
from pybuild.dockerfile.mounts import expand_mount, parse_mount, parse_size
from pybuild.dockerfile.nodes import split_flags
from pybuild.dockerfile.parser import parse, parse_nodes, parse_trigger
from pybuild.dockerfile.ports import expand_ports
from pybuild.dockerfile.signals import check_signal
from pybuild.dockerfile.text_error import TextError
from pybuild.dockerfile.words import expand, expand_heredoc, expand_words, process, used_names
from pybuild.errors import DockerfileError, Place, PybuildError

ENV = {"A": "a", "B": "b c", "E": "", "P": "/usr/lib/x.so.1", "N": "one\ntwo", "S": "a*b?c\\"}
#: seconds that one input of a few KiB may take
LIMIT = 2.0


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def fuzz_parse(data: bytes) -> None:
    """A whole Dockerfile: parsed, dumped, expanded; places lie within the file."""
    try:
        dump(parse_nodes(data))
    except DockerfileError:
        pass
    try:
        parsed = parse(data, fail_on_findings=False)
    except DockerfileError as e:
        assert e.place is not None, "every error of a Dockerfile names its line"
        assert 1 <= e.place.line <= data.count(b"\n") + 1
        return
    lines = data.count(b"\n") + 1
    last = 0
    for stage in parsed.stages:
        for instruction in (stage.from_, *stage.instructions):
            assert last < instruction.place.line <= instruction.end_line <= lines
            last = instruction.end_line
            expand_any(instruction, parsed.escape)
    check_options(parsed)


def expand_any(instruction: Instruction, escape: str) -> None:
    try:
        expand_instruction(instruction, ENV, escape=escape)
    except DockerfileError as e:
        assert e.place is not None


def fuzz_trigger(data: bytes) -> None:
    """An ONBUILD trigger, as a base image's config may hold it."""
    try:
        parse_trigger(text_of(data), place=Place("Dockerfile", 1))
    except DockerfileError:
        pass


def fuzz_words(data: bytes) -> None:
    """The lexer with all its settings. A word that can be expanded can be split, and the other way round."""
    word = text_of(data)
    outcomes = set()
    for call in (expand, expand_words):
        try:
            call(word, ENV)
            outcomes.add(True)
        except TextError:
            outcomes.add(False)
    assert len(outcomes) == 1
    for raw in (False, True):
        try:
            process(word, {}, escape="`", raw_quotes=raw, raw_escapes=raw, skip_unset=True)
        except TextError:
            pass
    try:
        expand_heredoc(word, ENV)
    except TextError:
        pass
    used_names([word])


def fuzz_ignore(data: bytes) -> None:
    """An ignore file and paths to match: whatever lies below an ignored directory that cannot be brought back is ignored."""
    patterns, _, rest = data.partition(b"\0")
    try:
        read_ignore(patterns)
        matcher = ignore_matcher(patterns)
    except DockerfileError:
        return
    if matcher is None:
        return
    parts = [p for p in text_of(rest).split("/") if p not in ("", ".", "..")][:20]
    path = "/".join(parts)
    matcher.matches(path)
    state: bytes | None = None
    skipped = False
    for n in range(1, len(parts) + 1):
        below = "/".join(parts[:n])
        ignored, state = matcher.match_below(below, state)
        assert ignored or not skipped, "a skipped directory hid something"
        skipped = skipped or (ignored and not matcher.may_reinclude(below))
        assert matcher.walk_state(below) == (ignored, state)


def fuzz_flags(data: bytes) -> None:
    """Flags of every instruction."""
    words, _ = split_flags(text_of(data))
    for instruction in (*FLAGS, "env"):
        try:
            parse_flags(instruction, words)
        except TextError as e:
            assert e.message


def fuzz_mount(data: bytes) -> None:
    """The value of ``--mount``."""
    try:
        found = parse_mount(text_of(data))
        expanded = expand_mount(found, ENV, workdir="/w")
    except TextError:
        return
    assert expanded.target is None or expanded.target.startswith("/")


def fuzz_texts(data: bytes) -> None:
    """Ports, durations, signals, modes, sizes, git addresses."""
    text = text_of(data)
    for call in (expand_ports, parse_duration, check_signal, parse_size, parse_git_ref):
        try:
            call(text)
        except TextError:
            pass
    try:
        change = parse_chmod(text)
    except TextError:
        return
    for mode in (0, 0o644, 0o4755, 0o7777):
        for is_dir in (False, True):
            assert 0 <= change.apply(mode, is_dir) <= 0o7777


def fuzz_glob(data: bytes) -> None:
    """Go's filepath.Match, and the patterns of an ignore file one by one."""
    pattern, _, name = text_of(data).partition("\0")
    clean_path(pattern)
    try:
        go_match(pattern, name)
        Matcher([pattern]).matches(name)
    except ValueError as e:
        assert "pattern" in str(e)


Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {
    "parse": fuzz_parse,
    "trigger": fuzz_trigger,
    "words": fuzz_words,
    "ignore": fuzz_ignore,
    "flags": fuzz_flags,
    "mount": fuzz_mount,
    "texts": fuzz_texts,
    "glob": fuzz_glob,
}


def check(target: Target, data: bytes) -> None:
    """Run one input; what escapes, or takes too long, is a bug."""
    begin = time.process_time()
    try:
        target(data)
    except PybuildError as e:
        raise AssertionError(f"{type(e).__name__} where it should have been handled: {e}") from e
    assert time.process_time() - begin < LIMIT, f"{len(data)} bytes took too long"
