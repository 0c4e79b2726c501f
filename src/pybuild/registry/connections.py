"""Connections that can be broken off from outside, so that a build that is ended does not wait for a silent server."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import typing
import weakref
from collections.abc import Iterable

import httpcore
import httpx


class Connections:
    """The sockets of a client that are open. ``break_off`` ends them: whoever waits on one gets an error at once."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._broken = False

    def add(self, stream: httpcore.NetworkStream) -> None:
        found = stream.get_extra_info("socket")
        if isinstance(found, socket.socket):
            with self._lock:
                self._sockets.add(found)
                broken = self._broken
            if broken:
                shut(found)

    def break_off(self) -> None:
        with self._lock:
            self._broken = True
            found = list(self._sockets)
        for item in found:
            shut(item)

    def watch(self, client: httpx.Client) -> None:
        """Have all connections that a client makes from now on, through proxies too, among these."""
        for transport in [client._transport, *client._mounts.values()]:
            pool = getattr(transport, "_pool", None)
            if pool is not None and hasattr(pool, "_network_backend"):
                pool._network_backend = Backend(self)


def shut(item: socket.socket) -> None:
    with contextlib.suppress(OSError):
        item.shutdown(socket.SHUT_RDWR)


class Backend(httpcore.NetworkBackend):
    """httpcore's own backend; every stream that it makes is told to ``Connections``."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[typing.Any] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        self._connections.add(stream)
        return Stream(stream, self._connections)

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class Stream(httpcore.NetworkStream):
    """A stream whose TLS socket is told to ``Connections`` too."""

    def __init__(self, stream: httpcore.NetworkStream, connections: Connections) -> None:
        self._stream = stream
        self._connections = connections

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, timeout)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, timeout)
        self._connections.add(stream)
        return Stream(stream, self._connections)

    def get_extra_info(self, info: str) -> typing.Any:
        return self._stream.get_extra_info(info)
