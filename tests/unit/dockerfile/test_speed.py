"""A big file parses in a time that grows with its size alone."""

from __future__ import annotations

import time

from pybuild.dockerfile.parser import parse


def dockerfile(lines: int) -> bytes:
    found = ["FROM base AS one"]
    n = 0
    while len(found) < lines:
        n += 1
        found += [
            f'ENV K{n}=v{n} L="a b"',
            f"RUN --mount=type=cache,target=/c{n} apt-get install \\",
            "    a-package && \\",
            "    # a comment",
            "    echo done",
            f"COPY --chown=1:1 a{n} b /dst/",
            f"COPY <<EOF{n} /x",
            "hello $A",
            f"EOF{n}",
            f"EXPOSE {n % 60000 + 1}/tcp",
            f"FROM one AS s{n}",
        ]
    return "\n".join(found).encode()


def seconds(data: bytes) -> float:
    best = 60.0
    for _ in range(3):
        begin = time.process_time()
        parse(data)
        best = min(best, time.process_time() - begin)
    return best


def test_ten_thousand_lines() -> None:
    small, large = seconds(dockerfile(2_500)), seconds(dockerfile(10_000))
    assert large < 1.0
    # four times the lines; a quadratic part would take sixteen times as long
    assert large < 10 * small + 0.05


def test_one_instruction_of_many_lines() -> None:
    assert seconds(b"FROM a\nRUN x \\\n" + b"  y \\\n" * 50_000 + b"z\n") < 1.0
    assert seconds(b"FROM a\nCOPY <<E /x\n" + b"abc $X def\n" * 50_000 + b"E\n") < 1.0
    assert seconds(b"FROM a\nLABEL " + b" \\\n".join(b"k%d=v" % i for i in range(20_000))) < 1.0
    assert (
        seconds(
            b"FROM a\nRUN cat "
            + b" ".join(b"<<A%d" % i for i in range(2_000))
            + b"\n"
            + b"".join(b"A%d\n" % i for i in range(2_000))
        )
        < 1.0
    )
