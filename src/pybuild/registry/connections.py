"""The connections of a client: they can be broken off from outside, and move large pieces without copies.

A build that is ended does not wait for a silent server: ``break_off`` ends every socket, and whoever waits on one gets an error.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import typing
import weakref
from collections.abc import Iterable, Iterator

import httpcore

#: bytes asked of a socket at once: larger pieces cost less, beyond this no more is gained
READ_SIZE = 256 << 10


class Connections:
    """The sockets that are open."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._broken = False

    def add(self, item: socket.socket) -> None:
        with self._lock:
            self._sockets.add(item)
            broken = self._broken
        if broken:
            shut(item)

    def break_off(self) -> None:
        with self._lock:
            self._broken = True
            found = list(self._sockets)
        for item in found:
            shut(item)


def shut(item: socket.socket) -> None:
    with contextlib.suppress(OSError):
        item.shutdown(socket.SHUT_RDWR)


class Backend(httpcore.NetworkBackend):
    """Makes connections by httpcore's own backend; every one is told to ``Connections``."""

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
        return Stream(stream, self._connections)

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class Stream(httpcore.NetworkStream):
    """A connection, plain or TLS. TLS inside TLS (``nested``: through a proxy that speaks it) goes httpcore's way."""

    def __init__(self, stream: httpcore.NetworkStream, connections: Connections, *, nested: bool = False) -> None:
        self._stream = stream
        self._nested = nested
        self._connections = connections
        self._socket: socket.socket = stream.get_extra_info("socket")
        connections.add(self._socket)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._nested:
            return self._stream.read(max_bytes, timeout)
        with translated(httpcore.ReadTimeout, httpcore.ReadError):
            self._socket.settimeout(timeout)
            return self._socket.recv(max_bytes if isinstance(self._socket, ssl.SSLSocket) else max(max_bytes, READ_SIZE))

    def read_into(self, view: memoryview, timeout: float) -> int:
        """Fill the buffer as far as bytes are there, at least one; 0 at the end. ``OSError``, ``TimeoutError``."""
        if self._nested:
            try:
                data = self._stream.read(len(view), timeout)
            except (httpcore.NetworkError, httpcore.TimeoutException) as e:
                raise OSError(str(e)) from e
            view[: len(data)] = data
            return len(data)
        self._socket.settimeout(timeout)
        if not isinstance(self._socket, ssl.SSLSocket):
            return self._socket.recv_into(view)
        # TLS comes in records of 16 KiB: several are put together, so that who works on them is called less often
        wanted = min(READ_SIZE, len(view))
        done = 0
        while done < wanted:
            try:
                count = self._socket.recv_into(view[done:])
            except OSError:
                if done:
                    break
                raise
            if not count:
                break
            done += count
        return done

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._nested:
            self._stream.write(buffer, timeout)
            return
        # the timeout is for every piece that the kernel takes, not for the whole
        with translated(httpcore.WriteTimeout, httpcore.WriteError), memoryview(buffer) as view:
            self._socket.settimeout(timeout)
            done = 0
            while done < len(view):
                done += self._socket.send(view[done:])

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        nested = isinstance(self._socket, ssl.SSLSocket)
        return Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._connections, nested=nested)

    def get_extra_info(self, info: str) -> typing.Any:
        return self._stream.get_extra_info(info)


@contextlib.contextmanager
def translated(timed_out: type[Exception], failed: type[Exception]) -> Iterator[None]:
    """Errors of the socket as httpcore's."""
    try:
        yield
    except TimeoutError as e:
        raise timed_out(e) from e
    except OSError as e:
        raise failed(e) from e
