"""One SMTP session: from connect to QUIT, many transactions in between. One task owns it at a time.

Every step ends in a value: a session or a ``Trouble``, a transaction's ``Ending``. Nothing is raised for what a peer says or does.
"""

import asyncio
import base64
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiosmtplib import SMTPException, SMTPResponseException

from services.smtp_sender.protocol import Lost, ReplyProtocol
from services.smtp_sender.tls import Tls
from shared.mail.reply import InvalidReply, Reply
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


@dataclass(frozen=True, slots=True)
class Target:
    """Where a session leads, and how: sessions to equal targets are interchangeable."""

    host: str
    """Name of the next hop (MX, smarthost); certificates are checked against it."""
    address: str
    port: int
    source: str | None = None
    """Local address; None = the system chooses."""
    security: Security = Security.OPPORTUNISTIC
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    connect_timeout: float = 30
    auth_clear: bool = False


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a transaction says about the mail."""

    reverse_path: str
    recipient: str
    size: int
    is_eight_bit: bool
    needs_utf8: bool


@dataclass(slots=True)
class Session:
    """An open session, ready for MAIL."""

    protocol: ReplyProtocol
    target: Target
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
            reply = await self.protocol.read_reply(timeout)
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
        self.data_sent = 0
        ending = await (self._begin_pipelined(envelope) if "PIPELINING" in self.extensions else self._begin(envelope))
        if ending is None:
            ending = await self._send_content(content)
        elif self.is_usable:
            await self._reset()
        self.last_used = time.monotonic()
        return ending

    async def quit(self) -> None:
        """Say goodbye and close."""
        if self.is_usable and self.protocol.is_quiet:
            await self.command(State.MESSAGE, "QUIT", TIMEOUTS.quit)
        self.protocol.abort()

    def _check(self, envelope: Envelope) -> Ending | None:
        """What the peer's extensions do not allow is refused before anything is said (RFC 1870, 6152, 6531)."""
        limit = self.extensions.get("SIZE", "")
        if limit.isascii() and limit.isdigit() and 0 < int(limit) < envelope.size:
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
        return line

    async def _begin(self, envelope: Envelope) -> Ending | None:
        """MAIL, RCPT, DATA one by one; None when the peer waits for the content."""
        steps = (
            (State.MAILFROM, self._mail_command(envelope), TIMEOUTS.mail),
            (State.RCPTTO, f"RCPT TO:<{envelope.recipient}>", TIMEOUTS.rcpt),
            (State.DATA, "DATA", TIMEOUTS.data),
        )
        for state, line, timeout in steps:
            reply = await self.command(state, line, timeout)
            if (ending := refusal_of(state, reply)) is not None:
                return ending
        return None

    async def _begin_pipelined(self, envelope: Envelope) -> Ending | None:
        """The three commands in one write (RFC 2920 3.1); the first refusal counts."""
        lines = f"{self._mail_command(envelope)}\r\nRCPT TO:<{envelope.recipient}>\r\nDATA\r\n"
        try:
            self.protocol.send(lines.encode())
        except Lost:
            self.is_usable = False
            return Ending(State.MAILFROM, Result.LOST)
        first: Ending | None = None
        replies = ((State.MAILFROM, TIMEOUTS.mail), (State.RCPTTO, TIMEOUTS.rcpt), (State.DATA, TIMEOUTS.data))
        for state, timeout in replies:
            reply = await self.read(state, timeout)
            first = first or refusal_of(state, reply)
            if isinstance(reply, Ending):
                return first
        if first is not None and isinstance(reply, Reply) and reply.code == 354:
            # RFC 2920 3.1: DATA went through although MAIL or RCPT was refused: end it with an empty message for nobody.
            await self.command(State.MESSAGE, ".", TIMEOUTS.dot)
        return first

    async def _send_content(self, content: bytes) -> Ending:
        end = b".\r\n" if not content or content.endswith(b"\r\n") else b"\r\n.\r\n"
        try:
            if len(content) <= CHUNK:
                self.protocol.send(content + end)
            else:
                view = memoryview(content)
                for start in range(0, len(view), CHUNK):
                    self.protocol.send(bytes(view[start : start + CHUNK]))
                    await self.protocol.drain(TIMEOUTS.block)
                self.protocol.send(end)
        except TimeoutError:
            # The content is incomplete without its final dot: the peer cannot have taken it.
            self.is_usable = False
            return Ending(State.DATA, Result.TIMEOUT)
        except Lost:
            self.is_usable = False
            return Ending(State.DATA, Result.LOST)
        self.data_sent = len(content)
        reply = await self.read(State.MESSAGE, TIMEOUTS.dot)
        if isinstance(reply, Ending):
            return reply
        if reply.is_positive:
            return Ending(State.MESSAGE, Result.ACCEPTED, reply)
        return refusal_of(State.MESSAGE, reply) or Ending(State.MESSAGE, Result.INVALID, reply)

    async def _reset(self) -> None:
        reply = await self.command(State.MAILFROM, "RSET", TIMEOUTS.mail)
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


async def open_session(target: Target, *, helo: str, tls: Tls) -> Session | Ending:
    """Connect, greet, EHLO, STARTTLS, AUTH as the target asks. In clear text after a failed opportunistic handshake."""
    session = await _connect(target, helo, tls)
    if isinstance(session, Ending) and session.state is State.STARTTLS and target.security is Security.OPPORTUNISTIC:
        session = await _connect(target, helo, None)
    if isinstance(session, Session) and target.username is not None:
        trouble = await _authenticate(session)
        if trouble is not None:
            await session.quit()
            return trouble
    return session


async def _connect(target: Target, helo: str, tls: Tls | None) -> Session | Ending:
    loop = asyncio.get_running_loop()
    local = (target.source, 0) if target.source else None
    try:
        async with asyncio.timeout(target.connect_timeout):
            _, protocol = await loop.create_connection(ReplyProtocol, target.address, target.port, local_addr=local)
    except TimeoutError:
        return Ending(State.CONNECT, Result.TIMEOUT)
    except OSError as error:
        state = State.BIND if local and "bind" in str(error) else State.CONNECT
        return Ending(state, Result.ERROR, text=f"{target.address}:{target.port}: {error.strerror or error}")
    session = Session(protocol, target, last_used=time.monotonic())
    transport: Any = protocol.transport
    session.local_ip = transport.get_extra_info("sockname")[0] if transport else None
    session.remote_ip = target.address
    trouble = await _introduce(session, helo, tls)
    if trouble is not None:
        await session.quit()
        return trouble
    return session


async def _introduce(session: Session, helo: str, tls: Tls | None) -> Ending | None:
    greeting = await session.read(State.INTRO, TIMEOUTS.greeting)
    if (ending := refusal_of(State.INTRO, greeting)) is not None:
        return ending
    if isinstance(greeting, Reply):
        session.mta = next(iter(greeting.text.split()), None)
    if (ending := await _hello(session, helo)) is not None:
        return ending
    security = session.target.security
    if tls is None or security is Security.OPTIONAL:
        return None
    if "STARTTLS" not in session.extensions:
        return None if security is Security.OPPORTUNISTIC else Ending(State.STARTTLS, Result.ERROR)
    return await _start_tls(session, helo, tls)


async def _hello(session: Session, helo: str) -> Ending | None:
    reply = await session.command(State.EHLO, f"EHLO {helo}", TIMEOUTS.ehlo)
    if isinstance(reply, Reply) and reply.is_permanent and session.is_usable:
        session.extensions = {}
        return refusal_of(State.HELO, await session.command(State.HELO, f"HELO {helo}", TIMEOUTS.ehlo))
    if (ending := refusal_of(State.EHLO, reply)) is not None:
        return ending
    if isinstance(reply, Reply):
        words = (line.partition(" ") for line in reply.text.split("\n")[1:])
        session.extensions = {name.upper(): rest.strip() for name, _, rest in words}
    return None


async def _start_tls(session: Session, helo: str, tls: Tls) -> Ending | None:
    target, protocol = session.target, session.protocol
    try:
        await protocol.start_tls(tls.context, server_hostname=_sni(target.host), timeout=TIMEOUTS.mail)
    except TimeoutError:
        return Ending(State.STARTTLS, Result.TIMEOUT)
    except Lost:
        return Ending(State.STARTTLS, Result.LOST)
    except SMTPResponseException as error:
        return Ending(State.STARTTLS, Result.ERROR, code=error.code, text=error.message)
    except (ssl.SSLError, OSError, SMTPException, InvalidReply) as error:
        session.is_usable = False
        return Ending(State.STARTTLS, Result.INVALID, text=f"TLS: {error or type(error).__name__}")
    transport: Any = protocol.transport
    session.tls = tls.describe(transport.get_extra_info("ssl_object"), target.host)
    certificate = session.tls.get("certificate", {})
    if target.security is Security.VERIFIED and not certificate.get("verified"):
        text = f"The certificate of {target.host} was not accepted: {certificate.get('result', 'there is none')}"
        return Ending(State.STARTTLS, Result.INVALID, text=text)
    return await _hello(session, helo)


def _sni(host: str) -> str | None:
    """Server name indication takes names only, no addresses."""
    return None if re.fullmatch(r"[\d.]+|.*:.*", host) else host


async def _authenticate(session: Session) -> Ending | None:
    """AUTH PLAIN (RFC 4954, 4616)."""
    target = session.target
    if not session.tls and not target.auth_clear:
        text = "The host offers no TLS, and a password is not sent in clear text (smtp-auth-clear)"
        return Ending(State.AUTHPLAIN, Result.INVALID, text=text)
    offered = session.extensions.get("AUTH", "").upper().split()
    if "PLAIN" not in offered:
        text = f"The host offers AUTH {' '.join(offered) or 'nothing'}; only PLAIN is built yet"
        return Ending(State.AUTHPLAIN, Result.INVALID, text=text)
    token = base64.b64encode(f"\0{target.username}\0{target.password or ''}".encode()).decode("ascii")
    reply = await session.command(State.AUTHPLAIN, f"AUTH PLAIN {token}", TIMEOUTS.mail)
    if (ending := refusal_of(State.AUTHPLAIN, reply)) is not None:
        return ending
    session.authentication = "PLAIN"
    return None
