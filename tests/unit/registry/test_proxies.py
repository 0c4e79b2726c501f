"""Which proxy a host is reached by."""

from __future__ import annotations

import pytest

from pybuild.registry.proxies import covers, proxies_from


@pytest.mark.parametrize(
    ("rule", "host", "port", "covered"),
    [
        ("*", "a.example", 443, True), ("example", "a.example", 443, True), ("example", "example", 443, True), ("example", "anexample", 443, False),
        (".example", "example", 443, False), (".example", "a.example", 443, True), ("*.example", "a.example", 443, True),
        ("a.example:5000", "a.example", 5000, True), ("a.example:5000", "a.example", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True), ("10.0.0.0/8", "11.1.2.3", 80, False), ("10.1.2.3", "10.1.2.3", 80, True),
        ("10.1.2.3:80", "10.1.2.3", 443, False), ("fd00::/8", "fd00::1", 443, True), ("[fd00::1]:443", "fd00::1", 443, True),
        ("example", "10.0.0.1", 80, False),
    ],
)  # fmt: skip
def test_no_proxy(rule: str, host: str, port: int, covered: bool) -> None:
    assert covers(rule, host, port) is covered


def test_variables() -> None:
    proxies = proxies_from({"HTTPS_PROXY": "proxy.example:3128", "https_proxy": "lower.example:1", "HTTP_PROXY": "http://p", "NO_PROXY": " x.example , Y.example"})
    assert proxies.choose("https", "r.example", None) == "http://lower.example:1"
    assert proxies.choose("http", "r.example", None) == "http://p"
    assert proxies.choose("https", "y.example", None) == ""
    assert proxies_from({"ALL_PROXY": "http://all"}).choose("https", "r.example", 5000) == "http://all"
    assert proxies_from({}).choose("https", "r.example", None) == ""


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_is_never_reached_by_a_proxy(host: str) -> None:
    assert proxies_from({"ALL_PROXY": "http://all"}).choose("http", host, 5000) == ""
