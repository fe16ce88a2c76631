"""The SMTP conversation: the commands, what each may do when, and the mail at its end (RFC 5321 3, 4)."""

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiosmtpd.smtp import Session

from services.smtp_inbox.arguments import MailArgument, Refusal, parse_helo, parse_mail, parse_rcpt
from services.smtp_inbox.connection import Connection, Gone, LineTooLong
from services.smtp_inbox.content import Budget, ContentReader
from services.smtp_inbox.door import Door
from services.smtp_inbox.metrics import REFUSED
from services.smtp_inbox.taking import Taken, decide_refusal, take, take_instructions
from shared.acceptance import Recipient, Submission
from shared.log import get_logger
from shared.mail.received import name_protocol, render_received

log = get_logger()

HTTP_VERBS = frozenset(["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PRI"])
"""A browser that was led to our port by a page speaks like this, and its next lines may be SMTP."""
MAIL_EXTRA = 26 + 10 + 17
"""Octets that SIZE, SMTPUTF8 and BODY add to a MAIL command (RFC 1870 3, RFC 6531 3.4, RFC 6152 2)."""
RCPT_EXTRA = 10
"""RFC 6531 3.1: octets that SMTPUTF8 adds to paths."""

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
        self._door = door
        self._settings = door.settings
        self.is_tls = is_tls
        self.client = ""
        """IP address."""
        self._transaction = Transaction()
        self._errors = 0
        self._junk = 0
        self._is_stopping = False

    # --- life ----------------------------------------------------------------------------------------------------------

    def _set_rset_state(self) -> None:
        self._transaction = Transaction()

    def connection_made(self, transport: Any) -> None:
        """A client is there (after the handshake, when TLS comes first)."""
        super().connection_made(transport)
        assert self._handler_coroutine is not None  # noqa: S101 - the library's connection_made has just made it
        self._door.enter(self._handler_coroutine)

    def connection_lost(self, error: Exception | None) -> None:
        """The client is no longer there."""
        super().connection_lost(error)
        self._door.leave(self)

    def stop(self) -> None:
        """The process ends: say so now, or after the mail that is being received."""
        self._is_stopping = True
        if not self.is_busy:
            self.hang_up("421 4.3.2 Going down, come again")

    def abort(self) -> None:
        """End the connection without a word."""
        super().abort()
        # A connection that ends in its handshake is not told of its end.
        self._door.leave(self)

    async def _handle_client(self) -> None:
        try:
            refusal = self._door.admit(self)
            if refusal:
                self._hang_up(refusal)
            self.reply(f"220 {self._door.hostname} ESMTP mailwarren")
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
        limit = self._settings.inbound_smtp_max_command
        try:
            line = await self.read_line(limit + MAIL_EXTRA, self._settings.inbound_smtp_command_timeout.total_seconds())
        except LineTooLong:
            self._refuse("500 5.5.2 Line too long")
            return
        verb, _, argument = line.rstrip(b"\r\n").partition(b" ")
        name = verb.upper().decode("ascii", "replace")
        command = _COMMANDS.get(name)
        if name in HTTP_VERBS:
            log.warning("HTTP at the SMTP port, connection dropped", client=self.client)
            self.abort()
            raise Gone
        if not line.endswith(b"\r\n") or _CONTROL.search(line, 0, len(line) - 2):
            self._refuse("500 5.5.2 A line ends in CRLF and has no other control characters")
        elif command is None:
            self._count_junk()
            self._refuse("502 5.5.1 Not built yet" if name in _NOT_BUILT else "500 5.5.1 No such command")
        elif len(line) > limit + command.extra:
            self._refuse("500 5.5.2 Line too long")
        else:
            await self._run(command, argument)

    async def _run(self, command: "Command", argument: bytes) -> None:
        if command.is_junk:
            self._count_junk()
        if command.is_last and self.has_input:
            # RFC 2920 3.1. What came too early could be meant for the other side of a handshake, or be content read as commands.
            self._hang_up("554 5.5.0 Input behind a command that must be the last of its group")
        try:
            text = argument.decode().strip(" ")
        except UnicodeDecodeError:
            self._refuse("500 5.5.2 Not UTF-8")
            return
        try:
            waits = command.method(self, text)
            if waits is not None:
                await waits
        except Refusal as refusal:
            self._refuse(str(refusal))

    def _refuse(self, text: str) -> None:
        """Reply, and count the client's errors. Raises Gone when there were too many."""
        REFUSED.labels(code=text[:3]).inc()
        self.reply(text)
        if text[0] == "5":
            self._errors += 1
            if self._errors > self._settings.inbound_smtp_max_errors:
                self._hang_up("421 4.7.0 Too many errors")

    def _count_junk(self) -> None:
        self._junk += 1
        if self._junk > self._settings.inbound_smtp_max_junk:
            self._hang_up("421 4.7.0 Too many commands without a mail")

    def _hang_up(self, text: str) -> None:
        REFUSED.labels(code=text[:3]).inc()
        log.warning("connection closed", client=self.client, reason=text)
        self.hang_up(text)
        raise Gone

    # --- commands without a mail ---------------------------------------------------------------------------------------

    def smtp_HELO(self, argument: str) -> None:
        """RFC 5321 4.1.1.1."""
        self._greet(argument, extended=False)
        self.reply(f"250 {self._door.hostname}")

    def smtp_EHLO(self, argument: str) -> None:
        """RFC 5321 4.1.1.1; only what is built is offered."""
        self._greet(argument, extended=True)
        lines = [self._door.hostname, "PIPELINING", f"SIZE {self._settings.inbound_smtp_max_size}"]
        if self._door.tls is not None and not self.is_tls:
            lines.append("STARTTLS")
        lines += ["ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8"]
        for line in lines[:-1]:
            self.reply(f"250-{line}")
        self.reply(f"250 {lines[-1]}")

    def _greet(self, argument: str, *, extended: bool) -> None:
        name = parse_helo(argument)
        self._set_rset_state()
        self._said.host_name, self._said.extended_smtp = name, extended

    @property
    def _said(self) -> Session:
        """What the client said about itself (the library's object)."""
        assert self.session is not None  # noqa: S101 - made in connection_made
        return self.session

    def smtp_NOOP(self, argument: str) -> None:
        """RFC 5321 4.1.1.9."""
        self.reply("250 2.0.0 Ok")

    def smtp_RSET(self, argument: str) -> None:
        """RFC 5321 4.1.1.5."""
        _expect_nothing(argument)
        self._set_rset_state()
        self.reply("250 2.0.0 Ok")

    def smtp_VRFY(self, argument: str) -> None:
        """RFC 5321 4.1.1.6, 7.3: whether an address exists is nobody's business."""
        self.reply("252 2.5.0 Send a mail, and see")

    def smtp_HELP(self, argument: str) -> None:
        """RFC 5321 4.1.1.8."""
        self.reply(f"214 2.0.0 {' '.join(sorted(_COMMANDS))}")

    def smtp_QUIT(self, argument: str) -> None:
        """RFC 5321 4.1.1.10."""
        _expect_nothing(argument)
        self.hang_up("221 2.0.0 Bye")
        raise Gone

    async def smtp_STARTTLS(self, argument: str) -> None:
        """RFC 3207."""
        _expect_nothing(argument)
        context: ssl.SSLContext | None = self._door.tls
        if context is None or self.is_tls or not self._said.extended_smtp:
            raise Refusal("503 5.5.1 No STARTTLS here and now")
        self.reply("220 2.0.0 Ready to start TLS")
        await self.start_tls(context)
        # RFC 3207 4.2: what was said in clear is forgotten.
        self.session = self._create_session()
        self._set_rset_state()

    # --- the mail ------------------------------------------------------------------------------------------------------

    def smtp_MAIL(self, argument: str) -> None:
        """RFC 5321 4.1.1.2."""
        if not self._said.host_name:
            raise Refusal("503 5.5.1 EHLO comes first")
        if self._transaction.mail is not None:
            raise Refusal("503 5.5.1 There is a mail already: RSET")
        mail = parse_mail(argument, extended=self._said.extended_smtp, max_size=self._settings.inbound_smtp_max_size)
        if (trouble := self._door.trouble) is not None:
            log.warning("no mail taken", client=self.client, reason=trouble)
            raise Refusal("451 4.3.0 Cannot take mail now, try again later")
        self._transaction.mail = mail
        self.reply("250 2.1.0 Ok")

    def smtp_RCPT(self, argument: str) -> None:
        """RFC 5321 4.1.1.3; the relay policy."""
        mail, recipients = self._transaction.mail, self._transaction.recipients
        if mail is None:
            raise Refusal("503 5.5.1 MAIL comes first")
        recipient = parse_rcpt(argument, extended=self._said.extended_smtp, smtputf8=mail.smtputf8)
        if not self._door.policy.may_relay(self.client):
            log.warning("relay refused", client=self.client, recipient=recipient)
            raise Refusal("550 5.7.1 No relay for you")
        if len(recipients) >= self._settings.inbound_smtp_max_recipients and recipient not in recipients:
            raise Refusal("452 4.5.3 Too many recipients: send this mail, then another one")
        recipients[recipient] = None
        self.reply("250 2.1.5 Ok")

    async def smtp_DATA(self, argument: str) -> None:
        """RFC 5321 4.1.1.4: receive the mail, take responsibility for it, and only then 250."""
        _expect_nothing(argument)
        mail, recipients = self._transaction.mail, self._transaction.recipients
        if mail is None:
            raise Refusal("503 5.5.1 MAIL comes first")
        if not recipients:
            raise Refusal("554 5.5.1 No valid recipients")
        self.is_busy = True
        try:
            self.reply("354 End with <CRLF>.<CRLF>")
            await self._receive(mail, list(recipients))
            self._set_rset_state()
            await self.flush()
        finally:
            self.is_busy = False
        if self._is_stopping:
            self._hang_up("421 4.3.2 Going down, come again")

    async def _receive(self, mail: MailArgument, recipients: list[str]) -> None:
        settings, transaction = self._settings, str(uuid4())
        received = render_received(
            helo=self._said.host_name or "",
            remote_ip=self.client,
            by=self._door.hostname,
            ident=transaction,
            now=datetime.now(UTC),
            protocol=name_protocol(extended=self._said.extended_smtp, secure=self.is_tls, utf8=mail.smtputf8),
            recipient=recipients[0] if len(recipients) == 1 else None,
        )
        budgets: tuple[Budget, ...] = self._door.budgets(self)
        reader = ContentReader(
            received, limit=settings.inbound_smtp_max_size, bare=settings.inbound_smtp_bare_newlines, budgets=budgets
        )
        try:
            await self.read_content(reader, settings.inbound_smtp_idle_timeout.total_seconds())
            content = reader.take_content()
            refusal = decide_refusal(reader, content, settings)
            if not refusal:
                instructed = take_instructions(content, may_relay=self._door.policy.may_relay(self.client))
                refusal = instructed.refusal
            if refusal:
                log.warning("mail refused", client=self.client, reason=refusal)
                self._refuse(refusal)
                return
            submission = Submission(
                channel="smtp",
                reverse_path=instructed.properties.get("envelope", mail.reverse_path),
                recipients=[Recipient(recipient) for recipient in recipients],
                content=instructed.content,
                properties=instructed.properties,
                source={"connection": self._describe()},
                hostname=self._door.hostname,
                transaction=transaction,
            )
            del content, instructed
            self._answer(await take(self._door.acceptance, submission))
        finally:
            reader.release()

    def _answer(self, taken: Taken) -> None:
        if taken.refusal:
            self._refuse(taken.refusal)
            return
        self._errors = self._junk = 0
        for accepted in taken.accepted:
            log.info("accepted", id=accepted.id, recipient=accepted.recipient, transaction=taken.transaction, client=self.client)
            self.reply(f"250-2.0.0 {accepted.id} for <{accepted.recipient}>")
        self.reply("250 2.0.0 Accepted")
        if self.is_gone:
            taken.count_unread()

    def _describe(self) -> dict[str, Any]:
        """The property ``connection`` of the message."""
        local = self.transport.get_extra_info("sockname") or ("", 0)
        remote = self.transport.get_extra_info("peername") or ("", 0)
        return {
            "local-ip": local[0],
            "local-port": local[1],
            "remote-ip": self.client,
            "remote-port": remote[1],
            "secure": self.is_tls,
            "user": None,
            "helo": self._said.host_name,
        }


@dataclass(frozen=True, slots=True)
class Command:
    """What holds for a command besides its method."""

    method: Callable[[Conversation, str], Any]
    extra: int = 0
    """Octets that its line may be longer than others."""
    is_last: bool = False
    """Must be the last of a group of pipelined commands."""
    is_junk: bool = False
    """Leads to no mail."""


def _expect_nothing(argument: str) -> None:
    if argument:
        raise Refusal("501 5.5.4 This command takes no argument")


_COMMANDS: Mapping[str, Command] = {
    "HELO": Command(Conversation.smtp_HELO, is_last=True, is_junk=True),
    "EHLO": Command(Conversation.smtp_EHLO, is_last=True, is_junk=True),
    "STARTTLS": Command(Conversation.smtp_STARTTLS, is_last=True, is_junk=True),
    "MAIL": Command(Conversation.smtp_MAIL, MAIL_EXTRA),
    "RCPT": Command(Conversation.smtp_RCPT, RCPT_EXTRA),
    "DATA": Command(Conversation.smtp_DATA, is_last=True),
    "RSET": Command(Conversation.smtp_RSET, is_junk=True),
    "NOOP": Command(Conversation.smtp_NOOP, is_junk=True),
    "VRFY": Command(Conversation.smtp_VRFY, is_junk=True),
    "HELP": Command(Conversation.smtp_HELP, is_junk=True),
    "QUIT": Command(Conversation.smtp_QUIT),
}
_NOT_BUILT = frozenset({"AUTH", "BDAT", "EXPN", "ETRN", "TURN", "XCLIENT", "XFORWARD"})
