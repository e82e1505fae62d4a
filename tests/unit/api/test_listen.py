"""The sockets the server listens on."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tailorbird.api.listen import bind


async def test_a_connection_sends_each_packet_at_once() -> None:
    """With Nagle's algorithm on, an answer in two packets takes 40 ms longer than one in one."""
    seen: asyncio.Queue[int] = asyncio.Queue()

    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        transport: socket.socket = writer.get_extra_info("socket")
        seen.put_nowait(transport.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    bound = bind("127.0.0.1", 0)
    async with await asyncio.start_server(connected, sock=bound):
        _, writer = await asyncio.open_connection(*bound.getsockname())
        assert await seen.get() != 0
        writer.close()
        await writer.wait_closed()


def test_a_taken_port_is_named() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            bind("127.0.0.1", port)
