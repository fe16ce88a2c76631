"""The connection to a peer: aiosmtplib's protocol with a queue of replies.

aiosmtplib pairs one command with one reply. With PIPELINING (RFC 2920) several replies arrive for one write, so they are queued here
and read in order. A reply that nobody asked for is not thrown away either: it means that the peer and we are out of step.
"""

import asyncio
import socket
import ssl
import struct
from collections import deque
from typing import cast

from aiosmtplib.protocol import SMTPProtocol

from shared.mail.reply import InvalidReply, Reply, parse_reply

MAX_LINE = 8192
MAX_REPLY = 32768
"""Bytes of one reply, all lines together: an endless reply costs one session."""
MOST_UNREAD = 100
"""Replies kept until they are read. Whoever says more is out of step for good, and no time is spent on the rest."""


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
        self._deadline = 0.0
        """By the loop's clock, of who waits."""
        self._timer: asyncio.TimerHandle | None = None
        """At a deadline, this one or an earlier one: a timer of its own for each reply costs as much as reading it."""
        self._is_gone = False
        self._owed = 1
        self.bytes_sent = 0

    @property
    def is_quiet(self) -> bool:
        """Connected, and nothing was said that nobody asked for."""
        return self.is_connected and not self._is_gone and not self._replies and not self._lines and not self._buffer

    def data_received(self, data: bytes) -> None:
        """Cut into lines and replies."""
        if len(self._replies) >= MOST_UNREAD:
            return
        self._buffer += data
        while len(self._replies) < MOST_UNREAD and (end := self._buffer.find(b"\n")) >= 0:
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
        if self._timer is not None:
            self._timer.cancel()

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
            self._deadline = self._loop.time() + timeout
            if self._timer is None or self._timer.when() > self._deadline:
                self._set_timer()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._replies:
            raise Lost
        return self._replies.popleft()

    async def begin_tls(self, context: ssl.SSLContext, *, server_hostname: str | None, timeout: float) -> None:
        """The handshake, after the peer said 220. Raises TimeoutError, Lost, ssl.SSLError or OSError; then close the connection."""
        if self._is_gone or self.transport is None:
            raise Lost
        # uvloop's transports are asyncio's by duck typing only.
        plain = cast("asyncio.WriteTransport", self.transport)
        async with asyncio.timeout(timeout):
            transport = await self._loop.start_tls(
                plain, self, context, server_hostname=server_hostname, ssl_handshake_timeout=timeout + 1
            )
        if transport is None:
            raise Lost
        self.transport = transport

    def send(self, data: bytes, *, replies: int = 1) -> None:
        """Write what the peer answers with so many ``replies``. Raises Lost."""
        # A transport that failed to write is closing before connection_lost says so.
        if not self.is_connected or self._is_gone:
            raise Lost
        self._owed += replies
        self.bytes_sent += len(data)
        self.write(data)

    async def drain(self, timeout: float) -> None:
        """Wait until the transport takes more. Raises TimeoutError or Lost."""
        try:
            async with asyncio.timeout(timeout):
                await self._drain_helper()
        except ConnectionError:
            raise Lost from None

    def close(self) -> None:
        """Close, once what was written has gone out."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once: a peer that reads nothing would keep a mere ``close`` waiting for ever."""
        if self.transport is not None:
            transport = cast("asyncio.WriteTransport", self.transport)
            sock = transport.get_extra_info("socket")
            if sock is not None and transport.get_write_buffer_size():
                # The peer reads nothing: the kernel would go on offering it what was written, for a quarter of an hour.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._look_at_clock)

    def _look_at_clock(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._waiter.set_exception(TimeoutError())

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
        if self._owed == 0 and isinstance(reply, Reply) and reply.code < 400:
            # A refusal may come at any time; a yes to what was not asked yet is no yes.
            reply = InvalidReply("the host answered before it was asked")
        self._owed = max(self._owed - 1, 0)
        self._replies.append(reply)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
