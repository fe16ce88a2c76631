"""One SMTP connection below its commands: bounded reading, replies in groups, deadlines, TLS, the end.

aiosmtpd is the frame: its protocol class, the life of a connection, its session object, one method per command. What is ours, and why: its
reader keeps a line of any length and takes DATA line by line, its loop sends replies one by one, and it gives a mail up when the client
leaves after the dot.
"""

import asyncio
import ssl
import time
from typing import Any, Protocol

from aiosmtpd.smtp import SMTP

from shared.log import get_logger

log = get_logger()

HIGH_WATER = 128 * 1024
"""Octets read ahead of the conversation, at most (and one read of the event loop more)."""
HANDSHAKE_TIMEOUT = 30.0
WRITE_TIMEOUT = 300.0
"""Seconds for a client to take a reply."""
MAX_REPLY = 510
"""Octets of a reply line without its CRLF (RFC 5321 4.5.3.1.5)."""
CLOSE_TIMEOUT = 10.0
"""Seconds for a client to take our last words."""
RATE_WINDOW = 60.0
"""Seconds over which the rate of DATA is measured."""


class Gone(Exception):
    """The connection has ended, whoever ended it. Never leaves the conversation."""


class LineTooLong(Exception):
    """A command line beyond the limit; it was thrown away up to its end."""

    def __init__(self, start: bytes, *, ends_in_crlf: bool) -> None:
        """``start``: its first octets, for the verb."""
        super().__init__()
        self.start = start
        self.ends_in_crlf = ends_in_crlf


class Reader(Protocol):
    """Takes content as it comes."""

    received: int
    """Octets so far."""

    def feed(self, data: bytes) -> bytes | None:
        """Take what came. Returns None: there is more to come; else what stands behind the end."""


class Connection(SMTP):
    """Reads and writes; ``Conversation`` gives it something to say."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not SMTP.__init__: it looks all its methods up by name again for every connection, which costs a tenth of a mail.
        asyncio.StreamReaderProtocol.__init__(self, None, loop=loop)  # type: ignore[arg-type]  # None is allowed; the reading is ours
        self.loop = loop
        self.transport: Any = None
        self._original_transport = None
        self._buffer = bytearray()
        self._searched = 0
        self._waiter: asyncio.Future[None] | None = None
        self._is_paused = False
        self._may_write: asyncio.Future[None] | None = None
        self._eof = False
        self._replies: list[bytes] = []
        self.is_gone = False
        """Nothing can be read or written any more."""
        self.is_busy = False
        """A mail is being received or taken: the process waits for its end before it stops."""
        self.is_tls = False
        self.deadline: float | None = None
        """Monotonic time at which the client has waited too long."""
        self._rate: tuple[float, int] | None = None
        self._content: Reader | None = None

    # --- what the event loop calls -------------------------------------------------------------------------------------

    def _reset_timeout(self, duration: float | None = None) -> None:
        """The library's timers are not used: one clock looks at all connections (``check_clock``)."""

    def data_received(self, data: bytes) -> None:
        """Keep what came, wake the conversation up."""
        if self.is_gone:
            return
        self._buffer += data
        if len(self._buffer) > HIGH_WATER and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The client has said all it wants to say; what it said is still answered (not under TLS, which ends both ways)."""
        self._eof = True
        self._wake()
        return not self.is_tls

    def connection_lost(self, error: Exception | None) -> None:
        """The connection has ended. Taking a mail goes on: its content is complete."""
        self.is_gone = True
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self._wake()

    def pause_writing(self) -> None:
        """The client does not read."""
        if self._may_write is None:
            self._may_write = self.loop.create_future()

    def resume_writing(self) -> None:
        """The client reads again."""
        waiting, self._may_write = self._may_write, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self.is_gone:
            self.resume_writing()

    # --- reading -------------------------------------------------------------------------------------------------------

    @property
    def has_said_all(self) -> bool:
        """The client has closed its side: it may be gone, or read on."""
        return self._eof

    @property
    def has_input(self) -> bool:
        """The client has sent more than what was read."""
        return bool(self._buffer)

    async def hear_early(self, seconds: float) -> bytes:
        """What the client says before it is greeted: what is there already, or else comes within so many seconds. Raises Gone."""
        # The event loop looks at its sockets in the first turn, and has read what is there before the second.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if seconds and not self._buffer and not self._eof and not self.is_gone:
            self._waiter = self.loop.create_future()
            timer = self.loop.call_later(seconds, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        if self.is_gone:
            raise Gone
        return bytes(self._buffer)

    async def read_line(self, limit: int, timeout: float) -> bytes:
        """The next line with its LF; replies go out before we wait. Raises Gone, or LineTooLong above ``limit`` octets."""
        self.deadline = time.monotonic() + timeout
        start = last = b""
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            if len(self._buffer) > limit:
                start = start or bytes(self._buffer[:8])
                last = bytes(self._buffer[-1:])
                self._buffer.clear()
            self._searched = len(self._buffer)
            await self._wait_for_input()
        self._searched = 0
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        if start or len(line) > limit:
            raise LineTooLong(start or line[:8], ends_in_crlf=(last + line).endswith(b"\r\n"))
        return line

    async def read_content(self, reader: Reader, timeout: float, *, goes_on: bool = False) -> None:
        """Feed the reader up to the end of the content, or of a chunk of it. Raises Gone.

        ``goes_on``: more of the content comes later, and the rate of it is measured over the pause, too.
        """
        if self._content is not reader:
            self._rate = (time.monotonic(), reader.received)
            self._content = reader
        try:
            while True:
                if self._buffer:
                    data = bytes(self._buffer)
                    self._buffer.clear()
                    rest = reader.feed(data)
                    if rest is not None:
                        self._buffer += rest
                        return
                self.deadline = time.monotonic() + timeout
                await self._wait_for_input()
        finally:
            self.deadline = None
            if not goes_on:
                self.forget_content()

    def forget_content(self) -> None:
        """The content is complete, or thrown away: its rate is no longer measured."""
        self._rate = self._content = None

    async def _wait_for_input(self) -> None:
        """Send what there is to send, then return when there is more to read. Raises Gone."""
        seen = len(self._buffer)
        await self.flush()
        if len(self._buffer) != seen:
            return
        if self._eof:
            raise Gone
        if self._is_paused:
            self._is_paused = False
            self.transport.resume_reading()
        self._waiter = self.loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self.is_gone:
            raise Gone

    # --- writing -------------------------------------------------------------------------------------------------------

    async def push(self, status: str | bytes) -> None:
        """Add a reply, without its CRLF. It goes out with the others of its group."""
        self.reply(status if isinstance(status, str) else status.decode())

    def reply(self, text: str) -> None:
        """Add a reply, without its CRLF (RFC 2920 3.2: replies to a group of commands go out together)."""
        line = text.encode("utf-8", "replace")
        if len(line) > MAX_REPLY:
            line = line[:MAX_REPLY].decode("utf-8", "ignore").encode()
        self._replies.append(line + b"\r\n")

    async def flush(self) -> None:
        """Send all replies. Raises Gone."""
        if self.is_gone:
            raise Gone
        if self._replies:
            self.transport.write(b"".join(self._replies))
            self._replies.clear()
        while self._may_write is not None and not self.is_gone:
            # The client reads too slowly: no further command is looked at until it has.
            if self.deadline is None:
                self.deadline = time.monotonic() + WRITE_TIMEOUT
            await self._may_write
        if self.is_gone:
            raise Gone

    def hang_up(self, last_words: str = "") -> None:
        """Say so, and close. The conversation ends with Gone."""
        if self.is_gone:
            return
        if last_words:
            self.reply(last_words)
        if self._replies:
            self.transport.write(b"".join(self._replies))
            self._replies.clear()
        self.is_gone = True
        self.deadline = time.monotonic() + CLOSE_TIMEOUT
        self.transport.close()
        self._wake()

    def abort(self) -> None:
        """End the connection without a word."""
        self.is_gone = True
        if self.transport is not None:
            self.transport.abort()
        self._wake()

    # --- time and TLS --------------------------------------------------------------------------------------------------

    def check_clock(self, now: float, min_rate: int) -> None:
        """Called every second or so: end the connection when its client has kept us waiting."""
        if self.is_gone:
            if self.deadline is not None and now > self.deadline:
                self.transport.abort()
        elif self.deadline is not None and now > self.deadline:
            self.hang_up("421 4.4.2 Timeout, closing the connection")
        elif self._rate is not None and self._content is not None and now - self._rate[0] >= RATE_WINDOW:
            if self._content.received - self._rate[1] < min_rate * (now - self._rate[0]):
                self.hang_up("421 4.4.2 Content comes too slowly, closing the connection")
            else:
                self._rate = (now, self._content.received)

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """The handshake. Raises Gone when it fails."""
        await self.flush()
        if self._buffer:
            # What came in clear while our reply went out must not be taken for what comes under TLS.
            self.abort()
            raise Gone
        self.deadline = None
        try:
            transport = await self.loop.start_tls(
                self.transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
        except (OSError, ssl.SSLError) as error:
            log.info("TLS handshake failed", reason=str(error) or type(error).__name__)
            self.abort()
            raise Gone from None
        if transport is None or self.is_gone:
            raise Gone
        self.transport = transport
        self.is_tls = True
