"""The same input gives the same layers: on one core and on two, with any number of threads, today and tomorrow."""

from __future__ import annotations

import json
import os
import pathlib
import random
import subprocess

import pytest

from .conftest import Program

DOCKERFILE = """\
FROM base
COPY data /data
COPY --chown=1000:50 data/sub /other
RUN mkdir /made && cp /data/sub/0 /made/file && touch -d @1700000000 /made/file /made /etc
"""


@pytest.fixture
def big_context(context: pathlib.Path) -> pathlib.Path:
    """Some megabytes in files that compress well, badly and not at all, in more than one block of the compressor."""
    generator = random.Random(7)
    (context / "data" / "sub").mkdir(parents=True)
    for n in range(40):
        text = " ".join(generator.choice(("layer", "blob", "index", "digest", "stage")) for _ in range(generator.randrange(20_000)))
        (context / "data" / f"{n}.txt").write_text(text)
    (context / "data" / "random").write_bytes(generator.randbytes(3 << 20))
    (context / "data" / "zeros").write_bytes(bytes(2 << 20))
    (context / "data" / "sub" / "0").write_text("x")
    for path in context.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    (context / "Dockerfile").write_text(DOCKERFILE)
    return context


def layers(program: Program, context: pathlib.Path, out: pathlib.Path, base: pathlib.Path, cpus: str, *more: str) -> list[str]:
    """The digests of a build's layers."""
    command = ["taskset", "-c", cpus, *program.command("--context", str(context), "--dockerfile", str(context / "Dockerfile"))]
    command += ["--build-context", f"base=oci-layout://{base}", "--no-push", "--oci-layout-path", str(out), "--snapshot-mode=redo", *more]
    subprocess.run(command, check=True, capture_output=True, env=program.environment())
    index = json.loads((out / "index.json").read_text())
    digest = index["manifests"][0]["digest"].removeprefix("sha256:")
    manifest = json.loads((out / "blobs" / "sha256" / digest).read_text())
    return [layer["digest"] for layer in manifest["layers"]]


@pytest.mark.skipif(os.geteuid() != 0, reason="RUN here needs root")
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_one_core_and_two_give_the_same_layers(
    program: Program, big_context: pathlib.Path, base_layout: pathlib.Path, tmp_path: pathlib.Path, compression: str
) -> None:
    flag = f"--compression={compression}"
    one = layers(program, big_context, tmp_path / "one", base_layout, "0", flag)
    cpus = ",".join(str(c) for c in sorted(os.sched_getaffinity(0)))
    many = layers(program, big_context, tmp_path / "many", base_layout, cpus, flag)
    again = layers(program, big_context, tmp_path / "again", base_layout, cpus, flag)
    # the RUN leaves a directory (tmp, root) with a time of its own in some images; the copies never do
    assert one[:-1] == many[:-1] == again[:-1]
    assert len(one) >= 4


def test_another_folder_gives_the_same_image(
    program: Program, big_context: pathlib.Path, base_layout: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (big_context / "Dockerfile").write_text("FROM base\nCOPY data /data\nLABEL a=b\n")
    elsewhere = tmp_path / "somewhere" / "else"
    elsewhere.parent.mkdir()
    subprocess.run(["cp", "-aT", str(big_context), str(elsewhere)], check=True)
    digests = []
    for number, place in enumerate((big_context, elsewhere)):
        out = tmp_path / f"out{number}"
        ended = program.run(
            "--context", str(place), "--dockerfile", str(place / "Dockerfile"), "--build-context", f"base=oci-layout://{base_layout}",
            "--no-push", "--oci-layout-path", str(out), SOURCE_DATE_EPOCH="1700000000",
        )  # fmt: skip
        assert ended.code == 0, ended.err
        digests.append(json.loads((out / "index.json").read_text())["manifests"][0]["digest"])
    assert digests[0] == digests[1]
