"""Bodies too large to be held: pulled out of the event loop by the thread that stores them."""

from __future__ import annotations

from collections.abc import Iterator

from anyio import from_thread
from fastapi import Request

ENVELOPE_BYTES = 128 * 1024
"""What a form may add to its file: boundaries, headers, fields."""
_PIECE_BYTES = 512 * 1024
"""What one trip to the event loop brings: the server hands out 64 KB at a time, and trips are what costs."""


def declared_length(request: Request) -> int:
    """0 when the client does not say."""
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() else 0


def read_streamed(request: Request) -> Iterator[bytes]:
    """The body in pieces, in a worker thread."""
    stream = request.stream()

    async def pull() -> bytes:
        piece = bytearray()
        async for chunk in stream:
            piece += chunk
            if len(piece) >= _PIECE_BYTES:
                break
        return bytes(piece)

    while piece := from_thread.run(pull):
        yield piece
