"""The SMTP conversation: one command after the other, errors counted, and its end (RFC 5321 3, 4)."""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import Session

from services.smtp_inbox.arguments import MailArgument, Refusal
from services.smtp_inbox.commands import COMMANDS, LONGEST_EXTRA, NOT_BUILT, Command
from services.smtp_inbox.connection import Connection, Gone, LineTooLong
from services.smtp_inbox.door import Door
from services.smtp_inbox.metrics import REFUSED
from shared.log import get_logger

log = get_logger()

HTTP_VERBS = frozenset(["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PRI"])
"""A browser that was led to our port by a page speaks like this, and its next lines may be SMTP."""
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@dataclass(slots=True)
class Transaction:
    """The mail that is being described (RFC 5321 3.3); an object of its own, so that a reset cannot forget a part."""

    mail: MailArgument | None = None
    recipients: dict[str, None] = field(default_factory=dict)
    """In the order in which they came; one that comes twice gets one mail."""


class Conversation(Connection):
    """One client."""

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop, *, is_tls: bool) -> None:
        super().__init__(loop)
        self.door = door
        self.settings = door.settings
        self.is_tls = is_tls
        self.client = ""
        """IP address."""
        self.transaction = Transaction()
        self.errors = 0
        self.junk = 0
        self.is_stopping = False

    # --- life ----------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget the mail that is being described (RFC 5321 4.1.1.5)."""
        self.transaction = Transaction()

    _set_rset_state = reset
    """The library's name."""

    def connection_made(self, transport: Any) -> None:
        """A client is there (after the handshake, when TLS comes first)."""
        super().connection_made(transport)
        assert self._handler_coroutine is not None  # noqa: S101 - the library's connection_made has just made it
        self.door.enter(self._handler_coroutine)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is no longer there."""
        super().connection_lost(error)
        self.door.leave(self)

    def stop(self) -> None:
        """The process ends: say so now, or after the mail that is being received."""
        self.is_stopping = True
        if not self.is_busy:
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
            self.reply(f"220 {self.door.hostname} ESMTP mailwarren")
            while True:
                await self._next_command()
        except Gone:
            pass
        except Exception:
            log.exception("conversation failed", client=self.client)
            self.hang_up("421 4.3.0 Internal trouble, come again")
        finally:
            if not self.is_gone:
                self.hang_up()

    async def _next_command(self) -> None:
        limit = self.settings.inbound_smtp_max_command
        try:
            line = await self.read_line(limit + LONGEST_EXTRA, self.settings.inbound_smtp_command_timeout.total_seconds())
        except LineTooLong:
            self.refuse("500 5.5.2 Line too long")
            return
        verb, _, argument = line.rstrip(b"\r\n").partition(b" ")
        name = verb.upper().decode("ascii", "replace")
        command = COMMANDS.get(name)
        if name in HTTP_VERBS:
            log.warning("HTTP at the SMTP port, connection dropped", client=self.client)
            self.abort()
            raise Gone
        if not line.endswith(b"\r\n") or _CONTROL.search(line, 0, len(line) - 2):
            self.refuse("500 5.5.2 A line ends in CRLF and has no other control characters")
        elif command is None:
            self.count_junk()
            self.refuse("502 5.5.1 Not built yet" if name in NOT_BUILT else "500 5.5.1 No such command")
        elif len(line) > limit + command.extra:
            self.refuse("500 5.5.2 Line too long")
        else:
            await self._run(command, argument)

    async def _run(self, command: Command, argument: bytes) -> None:
        if command.is_junk:
            self.count_junk()
        if command.is_last and self.has_input:
            # RFC 2920 3.1. What came too early could be meant for the other side of a handshake, or be content read as commands.
            self.end("554 5.5.0 Input behind a command that must be the last of its group")
        try:
            text = argument.decode().strip(" ")
        except UnicodeDecodeError:
            self.refuse("500 5.5.2 Not UTF-8")
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
    def said(self) -> Session:
        """What the client said about itself (the library's object)."""
        assert self.session is not None  # noqa: S101 - made in connection_made
        return self.session

    def forget(self) -> None:
        """Under TLS what was said in clear does not count (RFC 3207 4.2)."""
        self.session = self._create_session()
        self.reset()
