"""Deadlines, the rate of DATA, and reading in bounded pieces; time is an argument, the socket is a real pair."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from services.smtp_inbox.chunking import ChunkReader
from services.smtp_inbox.connection import HIGH_WATER, RATE_WINDOW, Connection, Gone, LineTooLong
from services.smtp_inbox.content import ContentReader
from services.smtp_inbox.keeping import BareNewlines, ContentKeeper
from tests.support.waiting import until


class Listening(Connection):
    """A connection whose conversation is the test."""

    async def _handle_client(self) -> None:
        await asyncio.sleep(0)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Listening, socket.socket]]:
    """Our side as a connection, the client's as a socket."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    loop = asyncio.get_running_loop()
    transport, connection = await loop.create_connection(lambda: Listening(loop), sock=ours)
    yield connection, theirs
    transport.abort()
    theirs.close()
    await until(lambda: connection.is_gone)


def reader() -> ContentReader:
    return ContentReader(ContentKeeper(b"", limit=10_000_000, bare=BareNewlines.REFUSE))


async def test_lines_come_one_by_one_and_the_replies_of_a_group_together(pair: tuple[Listening, socket.socket]) -> None:
    connection, client = pair
    client.send(b"one\r\ntwo\r\nthr")
    assert await connection.read_line(100, 10) == b"one\r\n"
    connection.reply("250 one")
    assert await connection.read_line(100, 10) == b"two\r\n"
    connection.reply("250 two")
    assert connection.has_input
    third = asyncio.ensure_future(connection.read_line(100, 10))
    await until(lambda: not connection._replies)
    assert client.recv(100) == b"250 one\r\n250 two\r\n"
    client.send(b"ee\r\n")
    assert await third == b"three\r\n"


async def test_a_long_line_is_thrown_away_up_to_its_end(pair: tuple[Listening, socket.socket]) -> None:
    connection, client = pair
    client.setblocking(False)
    line = asyncio.ensure_future(connection.read_line(100, 10))
    for data in (b"x" * 500_000, b"x" * 500_000, b"\r\nnext\r\n"):
        await asyncio.get_running_loop().sock_sendall(client, data)
    with pytest.raises(LineTooLong):
        await line
    assert await connection.read_line(100, 10) == b"next\r\n"


async def test_no_more_is_read_ahead_than_the_mark(pair: tuple[Listening, socket.socket]) -> None:
    connection, client = pair
    client.setblocking(False)
    sent = 0

    def fill() -> bool:
        nonlocal sent
        try:
            sent += client.send(b"x" * 65536)
        except BlockingIOError:
            return connection._is_paused
        return False

    await until(fill)
    assert len(connection._buffer) <= HIGH_WATER + 256 * 1024
    assert sent > len(connection._buffer)


async def test_a_deadline_ends_the_connection_with_421(pair: tuple[Listening, socket.socket]) -> None:
    connection, client = pair
    line = asyncio.ensure_future(connection.read_line(100, 10))
    await until(lambda: connection.deadline is not None)
    connection.check_clock(time.monotonic() + 9, 500)
    assert not connection.is_gone
    connection.check_clock(time.monotonic() + 11, 500)
    with pytest.raises(Gone):
        await line
    assert client.recv(100) == b"421 4.4.2 Timeout, closing the connection\r\n"


@pytest.mark.parametrize(("octets", "is_gone"), [(499, True), (501, False)])
async def test_the_rate_of_content_is_measured_over_each_window(
    pair: tuple[Listening, socket.socket], octets: int, is_gone: bool
) -> None:
    connection, client = pair
    content = reader()
    began = time.monotonic()
    reading = asyncio.ensure_future(connection.read_content(content, 300))
    await until(lambda: connection._rate is not None)
    # A quick start is no excuse for the window after it.
    for window in (1, 2):
        client.send(b"x" * (60_000 if window == 1 else octets * int(RATE_WINDOW)))
        expected = 60_000 + (window - 1) * octets * int(RATE_WINDOW)
        await until(lambda expected=expected: content.received == expected)  # type: ignore[misc]
        connection.check_clock(began + window * (RATE_WINDOW - 0.01), 500)
        assert not connection.is_gone
        connection.check_clock(began + window * (RATE_WINDOW + 0.1), 500)
    assert connection.is_gone is is_gone
    if is_gone:
        with pytest.raises(Gone):
            await reading
        assert client.recv(100).startswith(b"421 4.4.2 Content comes too slowly")
    reading.cancel()


@pytest.mark.parametrize("is_forgotten", [False, True], ids=["more to come", "dropped"])
async def test_the_rate_of_content_in_chunks_is_measured_over_the_pauses(
    pair: tuple[Listening, socket.socket], is_forgotten: bool
) -> None:
    connection, client = pair
    chunks = ChunkReader(None)
    began = time.monotonic()
    for _ in range(3):
        chunks.left = 100
        client.send(b"x" * 100)
        await connection.read_content(chunks, 300, goes_on=True)
    assert chunks.received == 300
    if is_forgotten:
        connection.forget_content()
    connection.check_clock(began + RATE_WINDOW + 5, 500)
    assert connection.is_gone is not is_forgotten


async def test_a_client_that_does_not_read_is_waited_for_and_then_cut(pair: tuple[Listening, socket.socket]) -> None:
    connection, _ = pair
    for _ in range(10_000):
        connection.reply("250-" + "x" * 500)
    flushing = asyncio.ensure_future(connection.flush())
    await until(lambda: connection.deadline is not None)
    assert not flushing.done()
    connection.check_clock(time.monotonic() + 301, 500)
    with pytest.raises(Gone):
        await flushing
    connection.check_clock(time.monotonic() + 311, 500)
    await until(lambda: connection.transport is None or connection.transport.is_closing())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("250 " + "x" * 506, "250 " + "x" * 506),
        ("250 " + "x" * 600, "250 " + "x" * 506),
        ("250 " + "\u00fc" * 300, "250 " + "\u00fc" * 253),
        ("250 x" + "\u00fc" * 300, "250 x" + "\u00fc" * 252),
    ],
    ids=["the longest", "too long", "two octets a character", "cut between characters"],
)
async def test_no_line_of_a_reply_is_longer_than_512_octets(pair: tuple[Listening, socket.socket], text: str, line: str) -> None:
    connection, client = pair
    connection.reply(text)
    await connection.flush()
    assert client.recv(1000) == line.encode() + b"\r\n"


@pytest.mark.parametrize("early", [b"", b"EHLO x\r\n"], ids=["silent", "early"])
async def test_who_talks_before_the_greeting_is_heard_at_once(pair: tuple[Listening, socket.socket], early: bytes) -> None:
    connection, client = pair
    if early:
        client.send(early)
    assert await connection.hear_early(0) == early
    assert await connection.hear_early(0.01) == early


async def test_who_talks_while_we_wait_ends_the_wait(pair: tuple[Listening, socket.socket]) -> None:
    connection, client = pair
    hearing = asyncio.ensure_future(connection.hear_early(300))
    await until(lambda: connection._waiter is not None)
    client.send(b"EHLO x\r\n")
    assert await asyncio.wait_for(hearing, 5) == b"EHLO x\r\n"


async def test_who_leaves_while_we_wait_ends_the_wait(pair: tuple[Listening, socket.socket]) -> None:
    connection, client = pair
    hearing = asyncio.ensure_future(connection.hear_early(300))
    await until(lambda: connection._waiter is not None)
    connection.hang_up("421 4.3.2 Going down, come again")
    with pytest.raises(Gone):
        await asyncio.wait_for(hearing, 5)
    assert client.recv(100).startswith(b"421 ")
