"""What registries ask for, in the forms that they ask for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.registry.challenges import Challenge, choose_challenge, parse_challenges

BEARER = Challenge("bearer", "https://auth.example/token", "r.example")


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        (['Bearer realm="https://auth.example/token",service="r.example"'], BEARER),
        (['bearer realm=https://auth.example/token , service = "r.example"'], BEARER),
        (['Basic realm="x"', 'Bearer realm="https://auth.example/token",service="r.example"'], BEARER),
        (['Basic realm="a, Bearer realm=b", Bearer service="r.example", realm="https://auth.example/token"'], BEARER),
        (["Negotiate, NTLM", 'Basic realm="a \\"b\\""'], Challenge("basic", 'a "b"')),
        (["Basic"], Challenge("basic")),
        (['Bearer service="no realm"'], None),
        (['Digest realm="x", nonce="y"'], None),
        ([], None),
        ([""], None),
    ],
)
def test_the_challenge_that_is_answered(headers: list[str], wanted: Challenge | None) -> None:
    assert choose_challenge(headers) == wanted


def test_scope_of_an_insufficient_token() -> None:
    header = 'Bearer realm="https://a/t",service="s",scope="repository:x/y:pull,push",error="insufficient_scope"'
    found = choose_challenge([header])
    assert found is not None
    assert found.scope == "repository:x/y:pull,push"


@given(st.lists(st.text(alphabet='abBearer "=,\\ \t', max_size=60), max_size=3))
def test_any_header_is_read_to_its_end(headers: list[str]) -> None:
    assert all(kind == kind.lower() for kind, _ in parse_challenges(headers))
