"""A socket for a step that leads to an ssh agent outside. The agent's own socket would only admit its owner."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator

PIECE = 64 * 1024


@contextlib.contextmanager
def relay(agent: str, path: str, mode: int, uid: int, gid: int) -> Iterator[None]:
    """While the context lasts, connections to a new socket at ``path`` are led to the agent's socket. ``OSError``."""
    ended, end = os.pipe2(os.O_CLOEXEC)
    threads: list[threading.Thread] = []
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            # a socket's path may have 107 bytes only
            listener.bind(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
            os.chmod(path, mode)
            if uid or gid:
                os.chown(path, uid, gid)
            listener.listen(16)
            accepting = threading.Thread(
                target=accept, args=(listener, agent, ended, threads), name="ssh-relay", daemon=True
            )
            accepting.start()
            try:
                yield
            finally:
                os.close(end)
                end = -1
                accepting.join()
                for thread in threads:
                    thread.join()
        finally:
            if end >= 0:
                os.close(end)
            os.close(ended)
            os.close(directory)


def accept(listener: socket.socket, agent: str, ended: int, threads: list[threading.Thread]) -> None:
    """Serve connections until the pipe ``ended`` has end of file."""
    while True:
        ready, _, _ = select.select([listener.fileno(), ended], [], [])
        if ended in ready:
            return
        try:
            client, _ = listener.accept()
        except OSError:
            return
        thread = threading.Thread(target=serve, args=(client, agent, ended), name="ssh-relay", daemon=True)
        threads.append(thread)
        thread.start()


def serve(client: socket.socket, agent: str, ended: int) -> None:
    """Carry bytes both ways between a client and the agent until either is done."""
    with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as upstream, contextlib.suppress(OSError):
        upstream.connect(agent)
        pairs = {client.fileno(): (client, upstream), upstream.fileno(): (upstream, client)}
        while True:
            ready, _, _ = select.select([*pairs, ended], [], [])
            if ended in ready:
                return
            for fd in ready:
                source, sink = pairs[fd]
                data = source.recv(PIECE)
                if not data:
                    return
                sink.sendall(data)
