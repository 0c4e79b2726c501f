"""Which proxy a host is reached by: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``, as Go's clients read them."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxies:
    """The variables of an environment; lower case names win over upper case ones."""

    http: str = ""
    https: str = ""
    no_proxy: tuple[str, ...] = ()

    def choose(self, scheme: str, host: str, port: int | None) -> str:
        """The proxy's URL for a host, ``""`` for a direct connection. This machine is never reached by a proxy."""
        proxy = self.https if scheme == "https" else self.http
        if not proxy or is_loopback(host) or any(covers(rule, host, port or _PORTS.get(scheme, 0)) for rule in self.no_proxy):
            return ""
        return proxy if "://" in proxy else f"http://{proxy}"


def proxies_from(env: Mapping[str, str]) -> Proxies:
    """The proxies that an environment names."""

    def get(name: str) -> str:
        return (env.get(name.lower()) or env.get(name.upper()) or "").strip()

    everything = get("ALL_PROXY")
    rules = tuple(rule.strip().lower() for rule in get("NO_PROXY").split(",") if rule.strip())
    return Proxies(get("HTTP_PROXY") or everything, get("HTTPS_PROXY") or everything, rules)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = as_address(host)
    return address is not None and address.is_loopback


def as_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def covers(rule: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY is about a host: ``*``, address, network, ``name`` (and names below it), ``.name`` (only those
    below it), each with an optional port."""
    if rule == "*":
        return True
    host = host.lower().rstrip(".")
    address = as_address(host)
    if address is not None:
        with contextlib.suppress(ValueError):
            return address in ipaddress.ip_network(rule, strict=False)
    name, colon, number = rule.rpartition(":")
    if colon and number.isdigit() and (":" not in name or name.endswith("]")):
        if int(number) != port:
            return False
        rule = name
    if address is not None:
        return as_address(rule) == address
    rule = rule.removeprefix("*")
    if rule.startswith("."):
        return host.endswith(rule)
    return host == rule or host.endswith(f".{rule}")
