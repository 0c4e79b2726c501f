"""How long is waited before the next try."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from pybuild.registry.retries import pause, wished


def test_pauses_double_with_jitter_and_have_a_limit() -> None:
    for attempt in range(20):
        longest = min(30.0, 0.25 * 2**attempt)
        found = [pause(attempt, 0.25) for _ in range(50)]
        assert all(longest / 2 <= p <= longest for p in found)
        assert len(set(found)) > 1


def test_the_server_may_say_when() -> None:
    assert pause(0, 0.25, "7") == 7.0
    assert pause(0, 0.25, "0") == 0.0
    assert pause(0, 0.25, "86400") == 60.0
    assert 50 < pause(0, 0.25, formatdate(time.time() + 59, usegmt=True)) <= 60
    assert pause(5, 0.25, formatdate(time.time() - 100, usegmt=True)) == 0.0


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "²"])
def test_what_is_no_time_is_left_out(text: str) -> None:
    assert wished(text) is None
