"""An HTTP proxy before a registry that does to requests and answers what networks and overloaded servers do."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal[
    "none",
    "reset before",  # the connection is reset before the registry sees the request
    "reset after",  # the registry did what was asked, its answer is lost
    "reset in body",  # the answer's body breaks off with a reset
    "truncate",  # the answer's body breaks off with an orderly end
    "short upload",  # the request's body is read in part, then the connection is reset
    "corrupt answer",  # a bit of the answer's body is another
    "corrupt upload",  # a bit of the request's body is another
    "ignore range",  # a range is answered with everything
    "wrong range",  # a range is answered with another one
    "no such range",  # 416
    "500",
    "503",
    "429",
    "redirect",  # the answer is to be had at another address, which must not see credentials
    "delay",
]
HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-authorization", "host"}


@dataclass(frozen=True)
class Asked:
    """A request as the proxy saw it, and what it did to it."""

    method: str
    path: str
    fault: Fault
    authorization: str | None
    range: str | None
    through_redirect: bool


@dataclass
class FaultyProxy:
    """``plan`` decides on the fault for a request. ``asked`` is what came in."""

    upstream: str
    plan: Callable[[str, str, dict[str, str]], Fault]
    seed: int = 0
    asked: list[Asked] = field(default_factory=list)
    host: str = ""
    other: str = ""
    #: answers of the token service and the like can be put in here: path to (status, headers, body)
    fixed: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)

    @contextlib.contextmanager
    def serve(self) -> Iterator[FaultyProxy]:
        handler = type("Handler", (_Handler,), {"proxy": self, "random": random.Random(self.seed)})
        servers = [_Server(("127.0.0.1", 0), handler) for _ in range(2)]
        self.host, self.other = (f"127.0.0.1:{s.server_address[1]}" for s in servers)
        threads = [threading.Thread(target=s.serve_forever, args=(0.01,), daemon=True) for s in servers]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            for server in servers:
                server.shutdown()
                server.server_close()
            for thread in threads:
                thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken connections are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy
    random: random.Random

    def log_message(self, *args: object) -> None:
        pass

    def reset(self) -> None:
        """End the connection with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def body(self) -> bytes:
        length = self.headers.get("Content-Length")
        if length is not None:
            return self.rfile.read(int(length))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            found = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        return b""

    def answer(self, status: int, headers: dict[str, str], body: bytes, *, length: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def flip(self, data: bytes) -> bytes:
        changed = bytearray(data)
        changed[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        return bytes(changed)

    def do_GET(self) -> None:
        proxy = self.proxy
        through_redirect = self.headers.get("Host") == proxy.other
        path = self.path
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        fault = proxy.plan(self.command, path, headers)
        seen = Asked(self.command, path, fault, headers.get("Authorization"), headers.get("Range"), through_redirect)
        proxy.asked.append(seen)
        if fault == "reset before":
            self.reset()
            return
        if fault == "short upload":
            self.rfile.read(int(self.headers.get("Content-Length", "0")) // 2)
            self.reset()
            return
        body = self.body()
        if path in proxy.fixed:
            self.answer(*proxy.fixed[path])
            return
        if fault in ("500", "503", "429"):
            self.answer(int(fault), {"Retry-After": "0"} if fault == "429" else {}, b'{"errors":[{"code":"TOOMANYREQUESTS"}]}')
            return
        if fault == "redirect":
            self.answer(307, {"Location": f"http://{proxy.other}{path}"}, b"")
            return
        if fault == "no such range":
            self.answer(416, {}, b"")
            return
        if fault == "delay":
            threading.Event().wait(0.02)
        if fault == "corrupt upload" and body:
            body = self.flip(body)
        if fault == "ignore range":
            headers.pop("Range", None)
        if fault == "wrong range" and "Range" in headers:
            headers["Range"] = "bytes=1-"
        self.forward(path, headers, body, fault)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def forward(self, path: str, headers: dict[str, str], body: bytes, fault: Fault) -> None:
        proxy = self.proxy
        with contextlib.closing(http.client.HTTPConnection(proxy.upstream, timeout=30)) as upstream:
            upstream.request(self.command, path, body=body or None, headers={**headers, "Host": proxy.host, "Content-Length": str(len(body))})
            response = upstream.getresponse()
            data = response.read()
        if fault == "reset after":
            self.reset()
            return
        given = {name: value for name, value in response.getheaders() if name.lower() not in HOP | {"content-length", "date"}}
        length = int(response.headers.get("Content-Length") or len(data))
        if fault == "corrupt answer" and data:
            data = self.flip(data)
        if fault in ("truncate", "reset in body") and data:
            data = data[: self.random.randrange(len(data))]
            self.answer(response.status, given, data, length=length)
            self.wfile.flush()
            if fault == "truncate":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self.reset()
            return
        self.answer(response.status, given, data, length=length)
