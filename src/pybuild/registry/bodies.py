"""The body of a large answer, read from its connection into one buffer.

httpx and h11 copy each byte four times on its way: over a second of processor time for a gigabyte, more than hashing and writing
it. So the protocol is theirs up to the first bytes of the body; the rest, whose length is known, is read here.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from pybuild.registry.connections import Stream

PIECE = 1 << 20
#: below this a connection that can be used again is worth more
SMALL = 1 << 20


def read_body(response: httpx.Response, stall: float) -> Iterator[bytes | memoryview]:
    """The body in pieces of at most 1 MiB or as httpx gives them; each is valid until the next is asked for.

    ``stall`` is how many seconds to wait for a byte. Raises ``httpx.TransportError`` as httpx does, for a body that ends early too."""
    chunks = response.iter_raw()
    stream = response.extensions.get("network_stream")
    length = body_length(response)
    if length is None or length < SMALL or not isinstance(stream, Stream):
        yield from chunks
        return
    # what came together with the header is in h11's buffer, and is all given out at once
    done = 0
    for first in chunks:
        done = len(first)
        yield first
        break
    view = memoryview(bytearray(min(PIECE, length)))
    while done < length:
        try:
            count = stream.read_into(view[: length - done], stall)
        except TimeoutError as e:
            raise httpx.ReadTimeout(str(e) or "timed out") from e
        except OSError as e:
            raise httpx.ReadError(str(e)) from e
        if not count:
            raise httpx.RemoteProtocolError(f"the connection was closed after {done} of {length} bytes of the body")
        done += count
        yield view[:count]


def body_length(response: httpx.Response) -> int | None:
    """``Content-Length`` when it says where the body ends."""
    text = response.headers.get("Content-Length", "")
    if response.http_version != "HTTP/1.1" or "Transfer-Encoding" in response.headers or not (text.isascii() and text.isdigit()):
        return None
    return int(text)
