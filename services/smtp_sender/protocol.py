"""The connection to a peer: aiosmtplib's protocol with a queue of replies.

aiosmtplib pairs one command with one reply. With PIPELINING (RFC 2920) several replies arrive for one write, so they are queued here
and read in order. A reply that nobody asked for is not thrown away either: it means that the peer and we are out of step.
"""

import asyncio
from collections import deque

from aiosmtplib import SMTPResponse
from aiosmtplib.protocol import SMTPProtocol

from shared.mail.reply import InvalidReply, Reply, parse_reply

MAX_LINE = 8192
MAX_REPLY = 32768
"""Bytes of one reply, all lines together: an endless reply costs one session."""


class Lost(Exception):
    """The connection is gone. Internal to the session, which turns it into a result."""


class ReplyProtocol(SMTPProtocol):
    """Reads replies strictly and in order."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self._lines: list[bytes] = []
        self._size = 0
        self._replies: deque[Reply | InvalidReply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._is_gone = False
        self.bytes_sent = 0

    @property
    def is_quiet(self) -> bool:
        """Connected, and nothing was said that nobody asked for."""
        return self.is_connected and not self._is_gone and not self._replies and not self._lines and not self._buffer

    def data_received(self, data: bytes) -> None:
        """Cut into lines and replies."""
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).removesuffix(b"\r")
            del self._buffer[: end + 1]
            self._take(line)
        if len(self._buffer) > MAX_LINE:
            self._buffer.clear()
            self._add(InvalidReply("a reply line has no end"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake up who waits for a reply."""
        super().connection_lost(exc)
        self._is_gone = True
        self._wake()

    def eof_received(self) -> bool:
        """The peer will say nothing more."""
        self._is_gone = True
        self._wake()
        return False

    async def read_reply(self, timeout: float) -> Reply | InvalidReply:
        """The next reply, in order. Raises TimeoutError or Lost."""
        if not self._replies:
            if self._is_gone:
                raise Lost
            self._waiter = self._loop.create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._waiter
            finally:
                self._waiter = None
        if not self._replies:
            raise Lost
        return self._replies.popleft()

    async def read_response(self, timeout: float | None = None) -> SMTPResponse:
        """For aiosmtplib's own ``start_tls``."""
        reply = await self.read_reply(timeout or 60)
        if isinstance(reply, InvalidReply):
            raise reply
        return SMTPResponse(reply.code, reply.text)

    def send(self, data: bytes) -> None:
        """Write. Raises Lost."""
        if self.transport is None or self._is_gone:
            raise Lost
        self.bytes_sent += len(data)
        self.write(data)

    async def drain(self, timeout: float) -> None:
        """Wait until the transport takes more. Raises TimeoutError or Lost."""
        try:
            async with asyncio.timeout(timeout):
                await self._drain_helper()
        except ConnectionError:
            raise Lost from None

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.close()

    def _take(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        if line[3:4] == b"-" and self._size <= MAX_REPLY:
            return
        lines, self._lines, self._size = self._lines, [], 0
        try:
            self._add(parse_reply(lines))
        except InvalidReply as error:
            self._add(error)

    def _add(self, reply: Reply | InvalidReply) -> None:
        if len(self._replies) < 100:
            self._replies.append(reply)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
