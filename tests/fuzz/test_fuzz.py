"""Random inputs for the frontend: the seeds, mutations of them, and texts made of the grammars' own pieces.

Short by default; ``PYBUILD_FUZZ_SECONDS=600`` mutates for that long. ``guided.py`` beside this is guided by coverage.
"""

from __future__ import annotations

import os
import pathlib
import random
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, os.path.dirname(__file__))

from targets import TARGETS, check

SEEDS = pathlib.Path(__file__).parent / "seeds"
SECONDS = float(os.environ.get("PYBUILD_FUZZ_SECONDS", "0"))
PIECES = {
    "parse": [
        "FROM ", "FROM scratch AS s\n", "RUN ", "COPY ", "ADD ", "ENV ", "ARG ", "LABEL ", "EXPOSE ", "HEALTHCHECK ", "ONBUILD ", "SHELL ",
        "VOLUME ", "USER ", "WORKDIR ", "CMD ", "ENTRYPOINT ", "STOPSIGNAL ", "MAINTAINER ", "# escape=`\n", "# check=", "skip=all;", "#", "\n",
        "\r\n", "\\\n", "`\n", " ", "\t", "<<EOF", "<<-'A'", "EOF\n", "A\n", "--mount=", "type=cache,", "target=/x", "--from=s", "--chown=$A",
        "--", '["a", "b"]', "[", "]", '"', "'", "$A", "${A:-", "}", "=", "a", "b c", "é", "\xa0", "\0", "AS ", "CMD", "NONE", "--interval=1s ",
    ],
    "words": ["$", "{", "}", "A", "B", "N", "P", "S", ":", "-", "+", "?", "#", "%", "/", "*", "\\", "'", '"', " ", "\n", "`", "<", "x", "é", "9"],
    "ignore": ["*", "**", "?", "[", "]", "^", "-", "\\", "/", "!", "a", "b", ".", "\n", "#", " ", "\0", "é", "\r"],
    "flags": ["--", "chown", "mount", "link", "from", "=", " ", "'", '"', "\\", "true", "x", "interval", "-"],
    "mount": ["type", "=", "cache", "secret", "bind", "tmpfs", "ssh", ",", "target", "/", "id", "$A", '"', "from", "ro", "mode", "7", "size", "m", "required", "env", "'", "${"],
    "texts": ["80", "-", "/", "tcp", ":", "[", "]", "::", ".", "1", "h", "ms", "µs", "SIG", "TERM", "u", "=", "+", "rwX", ",", "s", "t", "https://", ".git", "#", "?", "ref=", "git@h:", "m"],
}  # fmt: skip
PIECES["trigger"] = PIECES["parse"]
PIECES["glob"] = PIECES["ignore"]


def seeds(name: str) -> list[bytes]:
    folder = SEEDS / name
    return [p.read_bytes() for p in sorted(folder.iterdir())] if folder.is_dir() else []


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    found = seeds(name)
    assert found, "every target has seeds"
    for data in found:
        check(TARGETS[name], data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_pieces(name: str, data: st.DataObject) -> None:
    made = data.draw(st.lists(st.sampled_from(PIECES[name]), max_size=40).map("".join))
    check(TARGETS[name], made.encode())


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=300))
def test_any_bytes(name: str, data: bytes) -> None:
    check(TARGETS[name], data)


def mutate(random_: random.Random, pool: list[bytes], pieces: list[str]) -> bytes:
    data = bytearray(random_.choice(pool))
    for _ in range(random_.randint(1, 6)):
        at = random_.randint(0, len(data))
        match random_.randrange(6):
            case 0:
                data[at:at] = random_.choice(pieces).encode()
            case 1:
                del data[at : at + random_.randint(1, 8)]
            case 2:
                data[at : at + 1] = bytes([random_.randrange(256)])
            case 3:
                other = random_.choice(pool)
                data[at:at] = other[random_.randint(0, len(other)) :][:60]
            case 4:
                data[at:at] = bytes(data[at : at + random_.randint(1, 30)]) * random_.randint(1, 4)
            case 5:
                data[at:at] = random_.choice(pieces).encode() * random_.choice((2, 17, 300))
        del data[20_000:]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations(name: str) -> None:
    """A fixed number of mutations, or as many as the time asked for allows (a new beginning each run then)."""
    pool = [data for data in seeds(name) if len(data) < 20_000]
    random_ = random.Random(None if SECONDS else 7)
    end = time.monotonic() + SECONDS / len(TARGETS)
    count = 0
    while count < 200 or time.monotonic() < end:
        count += 1
        data = mutate(random_, pool, PIECES[name])
        try:
            check(TARGETS[name], data)
        except BaseException:
            print(f"input of target {name}: {data!r}")
            raise
        if count % 20 == 0 and len(pool) < 500:
            pool.append(data)
