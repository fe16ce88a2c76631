"""One SMTP session: many transactions, then QUIT (``opening`` is what comes before). One task owns it at a time.

Every transaction ends in a value, an ``Ending``. Nothing is raised for what a peer says or does.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.smtp_sender.policy import Policy
from services.smtp_sender.protocol import Lost, ReplyProtocol
from shared.mail.dsn import DsnRequest, render_mail_parameters, render_rcpt_parameters
from shared.mail.reply import Reply
from shared.wire.instructions import Security
from shared.wire.result import Result, State

CHUNK = 256 * 1024
"""Bytes written at a time: the buffer of the connection grows no further."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, per command (RFC 5321 4.5.3.2)."""

    greeting: float = 300
    ehlo: float = 300
    mail: float = 300
    rcpt: float = 300
    data: float = 120
    block: float = 180
    dot: float = 600
    quit: float = 5


TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class Ending:
    """How a step ended: state, result, and what the peer said if it said something."""

    state: State
    result: Result
    reply: Reply | None = None
    code: int | None = None
    status: str | None = None
    text: str | None = None
    """Code, status and text of ours, when the verdict is ours."""
    session: "Session | None" = field(default=None, compare=False, repr=False)
    """When there was a connection, but it came to no transaction: the closed session, for what it tells about the peer."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a session leads, and how: sessions to equal targets are interchangeable."""

    host: str
    """Name of the next hop (MX, smarthost); certificates are checked against it."""
    address: str
    port: int
    source: str | None = None
    """Local address; None = the system chooses."""
    helo: str | None = None
    """The name to say in EHLO from there; None = the one of all sessions (``Manners``)."""
    security: Security = Security.OPPORTUNISTIC
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    connect_timeout: float = 30
    auth_clear: bool = False
    certificate_name: str | None = None
    """Name that the certificate must be valid for; None = ``host``."""
    policy: Policy | None = None
    """What the domain demands of TLS, by DANE or MTA-STS; ``security`` has been raised to it."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a transaction says about the mail."""

    reverse_path: str
    recipient: str
    size: int
    is_eight_bit: bool
    needs_utf8: bool
    dsn: DsnRequest | None = None
    """What the sender asks to be told; passed on to a peer with DSN."""


@dataclass(slots=True)
class Session:
    """An open session, ready for MAIL."""

    protocol: ReplyProtocol
    target: Target
    timeouts: Timeouts = TIMEOUTS
    mta: str | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)
    local_ip: str | None = None
    remote_ip: str | None = None
    tls: Mapping[str, Any] = field(default_factory=dict)
    """``cipher`` and ``certificate`` as in results; empty in clear text."""
    authentication: str | None = None
    messages: int = 0
    last_used: float = 0.0
    is_usable: bool = True
    """False: out of step or told to leave; it is closed, not reused."""
    data_sent: int = 0
    """Bytes of content that the last transaction sent."""
    sent_before: int = 0
    ends_at: float = math.inf
    """When the attempt must be over (time.monotonic): no wait goes beyond it."""

    @property
    def bytes_sent(self) -> int:
        """Bytes sent since the session was lent out."""
        return self.protocol.bytes_sent - self.sent_before

    def lend(self, ends_at: float) -> None:
        """A new attempt uses the session, until ``ends_at``."""
        self.ends_at = ends_at
        self.sent_before = self.protocol.bytes_sent
        self.data_sent = 0

    async def command(self, state: State, line: str, timeout: float) -> Reply | Ending:
        """Send one command, read its reply."""
        try:
            self.protocol.send(line.encode() + b"\r\n")
        except Lost:
            self.is_usable = False
            return Ending(state, Result.LOST)
        return await self.read(state, timeout)

    async def read(self, state: State, timeout: float) -> Reply | Ending:
        """Read the next reply; whatever is no reply ends the session."""
        try:
            reply = await self.protocol.read_reply(self.limit(timeout))
        except TimeoutError:
            ending = Ending(state, Result.TIMEOUT)
        except Lost:
            ending = Ending(state, Result.LOST)
        else:
            if isinstance(reply, Reply):
                if reply.code == 421:
                    self.is_usable = False
                return reply
            ending = Ending(state, Result.INVALID, text=str(reply))
        self.is_usable = False
        return ending

    async def transact(self, envelope: Envelope, content: bytes) -> Ending:
        """Send one mail. ``content``: CRLF lines, dot-stuffed, without the final dot."""
        if (refusal := self._check(envelope)) is not None:
            return refusal
        self.messages += 1
        try:
            ending = await (self._begin_pipelined(envelope) if "PIPELINING" in self.extensions else self._begin(envelope))
            if ending is None:
                ending = await self._send_content(content)
            elif self.is_usable:
                await self._reset()
        except BaseException:
            # Cut off in the middle: whoever used it next would be out of step.
            self.is_usable = False
            raise
        self.last_used = time.monotonic()
        return ending

    async def quit(self) -> None:
        """Say goodbye and close; without a word when the session is out of step."""
        self.ends_at = math.inf
        try:
            if self.is_usable and self.protocol.is_quiet and isinstance(await self._say_quit(), Reply):
                self.protocol.close()
                return
        except asyncio.CancelledError:
            self.protocol.abort()
            raise
        self.protocol.abort()

    async def _say_quit(self) -> Reply | Ending:
        return await self.command(State.MESSAGE, "QUIT", self.timeouts.quit)

    def limit(self, timeout: float) -> float:
        return max(min(timeout, self.ends_at - time.monotonic()), 0)

    def _check(self, envelope: Envelope) -> Ending | None:
        """What the peer's extensions do not allow is refused before anything is said (RFC 1870, 6152, 6531)."""
        limit = self.extensions.get("SIZE", "")
        # 20 digits at most (RFC 1870 4); Python refuses to read thousands.
        if limit.isascii() and limit.isdigit() and len(limit) <= 20 and 0 < int(limit) < envelope.size:
            text = f"The message has {envelope.size} bytes, the host takes {limit}"
            return Ending(State.MAILFROM, Result.ERROR, code=552, status="5.3.4", text=text)
        if envelope.needs_utf8 and "SMTPUTF8" not in self.extensions:
            text = "The address is not ASCII and the host has no SMTPUTF8"
            return Ending(State.MAILFROM, Result.ERROR, code=553, status="5.6.7", text=text)
        if envelope.is_eight_bit and "8BITMIME" not in self.extensions:
            text = "The content is 8-bit and the host has no 8BITMIME"
            return Ending(State.MAILFROM, Result.ERROR, code=554, status="5.6.3", text=text)
        return None

    def _mail_command(self, envelope: Envelope) -> str:
        line = f"MAIL FROM:<{envelope.reverse_path}>"
        if "SIZE" in self.extensions:
            line += f" SIZE={envelope.size}"
        if envelope.is_eight_bit:
            line += " BODY=8BITMIME"
        if envelope.needs_utf8:
            line += " SMTPUTF8"
        if "DSN" in self.extensions:
            line += render_mail_parameters(envelope.dsn, is_null=not envelope.reverse_path)
        return line

    def _rcpt_command(self, envelope: Envelope) -> str:
        line = f"RCPT TO:<{envelope.recipient}>"
        if "DSN" in self.extensions:
            line += render_rcpt_parameters(envelope.dsn, is_null=not envelope.reverse_path)
        return line

    async def _begin(self, envelope: Envelope) -> Ending | None:
        """MAIL, RCPT, DATA one by one; None when the peer waits for the content."""
        steps = (
            (State.MAILFROM, self._mail_command(envelope), self.timeouts.mail),
            (State.RCPTTO, self._rcpt_command(envelope), self.timeouts.rcpt),
            (State.DATA, "DATA", self.timeouts.data),
        )
        for state, line, timeout in steps:
            reply = await self.command(state, line, timeout)
            if (ending := refusal_of(state, reply)) is not None:
                return ending
        return None

    async def _begin_pipelined(self, envelope: Envelope) -> Ending | None:
        """The three commands in one write (RFC 2920 3.1); the first refusal counts."""
        lines = f"{self._mail_command(envelope)}\r\n{self._rcpt_command(envelope)}\r\nDATA\r\n"
        try:
            self.protocol.send(lines.encode(), replies=3)
        except Lost:
            self.is_usable = False
            return Ending(State.MAILFROM, Result.LOST)
        first: Ending | None = None
        replies = ((State.MAILFROM, self.timeouts.mail), (State.RCPTTO, self.timeouts.rcpt), (State.DATA, self.timeouts.data))
        is_recipient_refused = wants_content = False
        for state, timeout in replies:
            reply = await self.read(state, timeout)
            first = first or refusal_of(state, reply)
            if isinstance(reply, Ending):
                return first
            if state is State.RCPTTO:
                is_recipient_refused = reply.is_temporary or reply.is_permanent
            wants_content = reply.is_intermediate
        if first is not None and wants_content:
            if is_recipient_refused:
                # RFC 2920 3.1: DATA went through although the recipient was refused: end it with an empty message for nobody.
                await self.command(State.MESSAGE, ".", self.timeouts.dot)
            else:
                # A dot might deliver an empty mail.
                self.is_usable = False
        return first

    async def _send_content(self, content: bytes) -> Ending:
        end = b".\r\n" if not content or content.endswith(b"\r\n") else b"\r\n.\r\n"
        try:
            if len(content) <= CHUNK:
                self.protocol.send(content + end)
            else:
                view = memoryview(content)
                for start in range(0, len(view), CHUNK):
                    self.protocol.send(bytes(view[start : start + CHUNK]), replies=0)
                    await self.protocol.drain(self.limit(self.timeouts.block))
                self.protocol.send(end)
        except TimeoutError:
            # The content is incomplete without its final dot: the peer cannot have taken it.
            self.is_usable = False
            return Ending(State.DATA, Result.TIMEOUT)
        except Lost:
            self.is_usable = False
            return Ending(State.DATA, Result.LOST)
        self.data_sent = len(content)
        reply = await self.read(State.MESSAGE, self.timeouts.dot)
        if isinstance(reply, Ending):
            return reply
        if reply.is_positive:
            return Ending(State.MESSAGE, Result.ACCEPTED, reply)
        return refusal_of(State.MESSAGE, reply) or Ending(State.MESSAGE, Result.INVALID, reply)

    async def _reset(self) -> None:
        reply = await self.command(State.MAILFROM, "RSET", self.timeouts.mail)
        if not isinstance(reply, Reply) or not reply.is_positive:
            self.is_usable = False


def refusal_of(state: State, reply: Reply | Ending) -> Ending | None:
    """The ending when ``reply`` does not let us go on; None when it does."""
    if isinstance(reply, Ending):
        return reply
    if reply.is_temporary or reply.is_permanent:
        return Ending(state, Result.ERROR, reply)
    expected = reply.is_intermediate if state is State.DATA else reply.is_positive
    return None if expected else Ending(state, Result.INVALID, reply)
