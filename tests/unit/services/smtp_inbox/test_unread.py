"""Was the last thing that we wrote taken by the other side?"""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from services.smtp_inbox.unread import is_unread, wait_until_read
from tests.support.waiting import until

Pair = tuple[asyncio.Transport, socket.socket]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """Our end of a TCP connection, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname(), 5)
        ours, _ = server.accept()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    yield transport, theirs
    transport.abort()
    theirs.close()
    await asyncio.sleep(0)


async def test_what_the_other_system_has_taken_counts_as_read(pair: Pair) -> None:
    transport, _ = pair
    transport.write(b"250 2.0.0 Accepted\r\n")
    await until(lambda: not is_unread(transport))
    assert await wait_until_read(transport)


async def test_what_does_not_get_through_is_unread(pair: Pair) -> None:
    transport, _ = pair
    transport.write(b"x" * 30_000_000)
    assert is_unread(transport)
    assert not await wait_until_read(transport, 0.1)


async def test_a_client_that_has_gone_has_not_read(pair: Pair) -> None:
    transport, client = pair
    client.close()
    await until(transport.is_closing)
    assert not await wait_until_read(transport)
    assert is_unread(transport, BrokenPipeError())
