"""The SMTP conversation: one command after the other, errors counted, and its end (RFC 5321 3, 4)."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import Session

from services.smtp_inbox.arguments import MailArgument, RcptArgument, Refusal
from services.smtp_inbox.authenticating import TOO_LONG
from services.smtp_inbox.chunking import Chunked
from services.smtp_inbox.commands import COMMANDS, LONGEST_EXTRA, NOT_OFFERED, Command
from services.smtp_inbox.connection import Connection, Gone, LineTooLong
from services.smtp_inbox.door import Door
from services.smtp_inbox.metrics import REFUSED
from services.smtp_inbox.proxy import Remote
from services.smtp_inbox.settings import Listener
from services.smtp_inbox.taking import Taken
from services.smtp_inbox.unread import is_unread
from shared.log import get_logger

log = get_logger()

HTTP_VERBS = frozenset([b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE", b"PRI"])
"""A browser that was led to our port by a page speaks like this, and its next lines may be SMTP."""
PATIENT_COMMANDS = 50
"""Commands after which other clients get a turn."""
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@dataclass(slots=True)
class Transaction:
    """The mail that is being described (RFC 5321 3.3); an object of its own, so that a reset cannot forget a part."""

    mail: MailArgument | None = None
    recipients: dict[str, RcptArgument] = field(default_factory=dict)
    """In the order in which they came; one that comes twice gets one mail, and what its last RCPT said."""
    local: set[str] = field(default_factory=set)
    """Those of them that were local when RCPT was accepted."""
    chunked: Chunked | None = None
    """What BDAT has brought so far."""
    refused: str = ""
    """The reply to a chunk that was thrown away: no part of the mail may be taken any more."""

    @property
    def is_chunked(self) -> bool:
        """BDAT has begun."""
        return self.chunked is not None or bool(self.refused)


class Conversation(Connection):
    """One client."""

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop, listener: Listener, remote: Remote | None = None) -> None:
        super().__init__(loop)
        self.door = door
        self.settings = door.settings
        self.listener = listener
        self.is_tls = listener.is_tls
        self.remote = remote
        """The client's end; None: that of the connection itself, no proxy is between."""
        self.user: str | None = None
        """As whom the client has authenticated."""
        self.client = ""
        """IP address."""
        self._relays: tuple[str | None, bool] | None = None
        """User, and whether it may relay: asked for several times a mail."""
        self.transaction = Transaction()
        self.errors = 0
        self.junk = 0
        self.is_stopping = False
        self.unread: Taken | None = None
        """The mail whose 250 was the last that we wrote; the client has said nothing since."""

    # --- life ----------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the mail that is being described (RFC 5321 4.1.1.5)."""
        self._forget_chunks()
        self.transaction = Transaction()

    _set_rset_state = reset
    """The library's name."""

    def refuse_mail(self, reply: str) -> None:
        """A chunk of the mail that is being described is refused so: nothing of it can be taken."""
        self._forget_chunks()
        if self.transaction.mail is not None:
            self.transaction.refused = reply

    def _forget_chunks(self) -> None:
        if self.transaction.chunked is not None:
            self.transaction.chunked.intake.keeper.release()
            self.transaction.chunked = None
            self.forget_content()

    def connection_made(self, transport: Any) -> None:
        """A client is there (after the handshake, when TLS comes first)."""
        super().connection_made(transport)
        assert self._handler_coroutine is not None  # noqa: S101 - the library's connection_made has just made it
        self.door.enter(self._handler_coroutine)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is no longer there."""
        self._look_back(error)
        super().connection_lost(error)
        self.door.leave(self)

    def eof_received(self) -> bool:
        """The client says nothing more."""
        if self.is_tls:
            # Before our own goodbye, which would count as octets that the client has not taken.
            self._look_back()
        return super().eof_received()

    def hang_up(self, last_words: str = "") -> None:
        """Say so, and close."""
        self._look_back()
        super().hang_up(last_words)

    def _look_back(self, error: Exception | None = None) -> None:
        unread, self.unread = self.unread, None
        if unread is not None and is_unread(self.transport, error):
            unread.count_unread()

    def stop(self) -> None:
        """The process ends: say so now, or after the mail that is being received."""
        self.is_stopping = True
        if not self.is_busy:
            self.unread = None  # it may be on its way still, and doubt counts as read
            self.hang_up("421 4.3.2 Going down, come again")

    def abort(self) -> None:
        """End the connection without a word."""
        super().abort()
        # A connection that ends in its handshake is not told of its end.
        self.door.leave(self)

    async def _handle_client(self) -> None:
        try:
            refusal = self.door.admit(self)
            if refusal:
                self.end(refusal)
            await self._greet()
            while True:
                for _ in range(PATIENT_COMMANDS):
                    await self._next_command()
                await self._give_way()
        except Gone:
            pass
        except Exception:
            log.exception("conversation failed", client=self.client)
            self.hang_up("421 4.3.0 Internal trouble, come again")
        finally:
            self.reset()
            if not self.is_gone:
                self.hang_up()

    async def _greet(self) -> None:
        """220, unless the client talks first: no mail server does, and who cannot wait for us will not read our replies."""
        is_expected = self.may_relay or self.listener.needs_auth or self.is_proxy
        early = await self.hear_early(0 if is_expected else self.settings.inbound_smtp_greeting_delay.total_seconds())
        if early:
            self._drop_http(early.partition(b" ")[0])
            self.end("554 5.5.0 You talk before you are greeted")
        self.reply(f"220 {self.door.hostname} ESMTP mailwarren")

    async def _give_way(self) -> None:
        """Thousands of commands may be there already, and reading them waits for nothing: send the replies first. Raises Gone."""
        await self.flush()
        await asyncio.sleep(0)
        if self.is_gone:
            raise Gone

    def _drop_http(self, verb: bytes) -> None:
        """Raises Gone when it is a verb of HTTP."""
        if verb.upper() in HTTP_VERBS:
            log.warning("HTTP at the SMTP port, connection dropped", client=self.client)
            self.abort()
            raise Gone

    async def _next_command(self) -> None:
        limit = self.settings.inbound_smtp_max_command
        try:
            line = await self.read_line(limit + LONGEST_EXTRA, self.settings.inbound_smtp_command_timeout.total_seconds())
            self.unread = None
        except LineTooLong as error:
            name = error.start.partition(b" ")[0].upper().decode("ascii", "replace")
            text = TOO_LONG if name == "AUTH" else "500 5.5.2 Line too long"
            if not error.ends_in_crlf:
                self.end(text)
            self._refuse_line(text, COMMANDS.get(name))
            return
        verb, _, argument = line.rstrip(b"\r\n").partition(b" ")
        name = verb.upper().decode("ascii", "replace")
        command = COMMANDS.get(name)
        self._drop_http(verb)
        if name == "PROXY" or line == b"\x00\r\n":
            # A proxy that is not in inbound-smtp-proxy-from (version 1, or the second line of version 2): what follows is its client's,
            # who must not be taken for the proxy.
            self.end("500 5.5.1 No such command")
        if not line.endswith(b"\r\n"):
            # What stands behind an LF alone may have been a part of the argument to whoever sent it: it is never run as a command.
            self.end("500 5.5.2 A line ends in CRLF and has no other control characters")
        if _CONTROL.search(line, 0, len(line) - 2):
            self._refuse_line("500 5.5.2 A line ends in CRLF and has no other control characters", command)
        elif command is None:
            self.count_junk()
            self.refuse("502 5.5.1 Not offered here" if name in NOT_OFFERED else "500 5.5.1 No such command")
        elif len(line) > limit + command.extra:
            self._refuse_line(TOO_LONG if name == "AUTH" else "500 5.5.2 Line too long", command)
        else:
            await self._run(command, argument)

    def _refuse_line(self, text: str, command: Command | None) -> None:
        if command is not None and command.is_followed:
            # Its content would be read as commands.
            self.end(text)
        self.refuse(text)

    async def _run(self, command: Command, argument: bytes) -> None:
        if command.is_junk:
            self.count_junk()
        if command.is_last and self.has_input:
            # RFC 2920 3.1. What came too early could be meant for the other side of a handshake, or be content read as commands.
            self.end("554 5.5.0 Input behind a command that must be the last of its group")
        try:
            text = argument.decode().strip(" ")
        except UnicodeDecodeError:
            self._refuse_line("500 5.5.2 Not UTF-8", command)
            return
        try:
            waits = command.run(self, text)
            if waits is not None:
                await waits
        except Refusal as refusal:
            self.refuse(str(refusal))

    def refuse(self, text: str) -> None:
        """Reply, and count the client's errors. Raises Gone when there were too many."""
        REFUSED.labels(code=text[:3]).inc()
        self.reply(text)
        if text[0] == "5":
            self.errors += 1
            if self.errors > self.settings.inbound_smtp_max_errors:
                self.end("421 4.7.0 Too many errors")

    def count_junk(self) -> None:
        """Count a command that leads to no mail. Raises Gone when there were too many."""
        self.junk += 1
        if self.junk > self.settings.inbound_smtp_max_junk:
            self.end("421 4.7.0 Too many commands without a mail")

    def end(self, text: str) -> None:
        """Say why, and close. Raises Gone."""
        REFUSED.labels(code=text[:3]).inc()
        log.warning("connection closed", client=self.client, reason=text)
        self.hang_up(text)
        raise Gone

    @property
    def may_relay(self) -> bool:
        """Whether the client may send to everybody."""
        if self._relays is None or self._relays[0] != self.user:
            self._relays = self.user, self.door.policy.may_relay("" if self.is_proxy else self.client, self.user)
        return self._relays[1]

    @property
    def is_proxy(self) -> bool:
        """A proxy is here that passes on nobody it could name."""
        return self.remote is not None and self.remote.is_proxy

    @property
    def said(self) -> Session:
        """What the client said about itself (the library's object)."""
        assert self.session is not None  # noqa: S101 - made in connection_made
        return self.session

    def forget(self) -> None:
        """Under TLS what was said in clear does not count (RFC 3207 4.2)."""
        self.session = self._create_session()
        self.user = None
        self.reset()
