"""dockerfile-parse splits plain files the same way (it knows neither here-documents nor ``escape`` in every place)."""

from __future__ import annotations

import io

import pytest

from pybuild.dockerfile.parser import parse

FILES = [
    "FROM a\nRUN b\n",
    '# comment\nFROM a AS x\nRUN b \\\n  && c \\\n  && d\nCMD ["x"]\n',
    "FROM a\nENV A=1 B=2\nLABEL x=y \\\n  z=w\nRUN x \\\n# comment\n  y\nFROM b\nCOPY --from=0 a b\n",
]


@pytest.mark.parametrize("text", FILES)
def test_instructions_and_lines_agree(text: str) -> None:
    other = pytest.importorskip("dockerfile_parse")
    theirs = [
        (s["instruction"], s["startline"] + 1, s["endline"] + 1)
        for s in other.DockerfileParser(fileobj=io.BytesIO(text.encode())).structure
        if s["instruction"] != "COMMENT"
    ]
    parsed = parse(text.encode())
    ours = [
        (i.text.split()[0], i.place.line, i.end_line)
        for stage in parsed.stages
        for i in (stage.from_, *stage.instructions)
    ]
    assert ours == theirs
