"""Ports of EXPOSE: ``80``, ``80/udp``, ``8000-8010/tcp``; an address and a host port before them are read and dropped, as BuildKit does."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from pybuild.dockerfile.text_error import TextError

PROTOCOLS = ("tcp", "udp", "sctp")


@dataclass(frozen=True, slots=True)
class PortSpec:
    """A port word taken apart; ``protocol`` as written, ``""`` when it was not given."""

    first: int
    last: int
    protocol: str
    address: str
    host: str


def expand_ports(word: str) -> list[str]:
    """The word (already expanded) as ``port/protocol`` items, a range as all its ports. ``TextError`` when it is malformed."""
    spec = parse_port(word)
    protocol = spec.protocol.lower() or "tcp"
    return [f"{port}/{protocol}" for port in range(spec.first, spec.last + 1)]


def parse_port(word: str) -> PortSpec:
    """Read ``[[address:]host:]port[-port][/protocol]``; ``TextError`` when it is malformed."""
    before, _, container = word.rpartition(":")
    address, _, host = before.rpartition(":")
    ports, _, protocol = container.partition("/")
    if not ports:
        raise TextError(f"invalid port: {word!r}: no port specified", hint="write a port like 8080 or 8080/udp")
    if protocol and protocol.lower() not in PROTOCOLS:
        raise TextError(f"invalid port: {word!r}: invalid proto: {protocol}", hint="the protocol is tcp, udp or sctp")
    if address:
        check_address(address)
    first, last = port_range(ports, "containerPort")
    if host:
        first_host, last_host = port_range(host, "hostPort")
        if last - first != last_host - first_host and first != last:
            raise TextError(f"invalid ranges specified for container and host Ports: {ports} and {host}")
    return PortSpec(first, last, protocol, address, host)


def check_address(text: str) -> None:
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        ipaddress.ip_address(inner.partition("%")[0] if text.startswith("[") else inner)
    except ValueError:
        raise TextError(f"invalid IP address: {text}") from None


def port_range(text: str, what: str) -> tuple[int, int]:
    start, dash, end = text.partition("-")
    first = port_number(start, text, what)
    last = port_number(end, text, what) if dash and end != start else first
    if last < first:
        raise TextError(f"invalid {what}: {text}", hint="the first port of a range is the smaller one")
    return first, last


def port_number(digits: str, text: str, what: str) -> int:
    bare = digits[1:] if digits[:1] in ("+", "-") else digits
    if not bare.isascii() or not bare.isdigit():
        raise TextError(f"invalid {what}: {text}", hint="a port is a number from 0 to 65535")
    value = int(digits) if len(bare) < 20 else 1 << 20
    if not 0 <= value <= 65535:
        raise TextError(f"invalid {what}: {text}: value out of range (0-65535)")
    return value
