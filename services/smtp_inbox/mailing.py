"""The commands of a mail: MAIL, RCPT, DATA, and what is answered at its end, for BDAT too."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from services.smtp_inbox.arguments import MailArgument, RcptArgument, Refusal, expect_nothing, parse_mail, parse_rcpt
from services.smtp_inbox.content import ContentReader
from services.smtp_inbox.keeping import Budget, ContentKeeper, Verdict
from services.smtp_inbox.refused import Refused, find_path
from services.smtp_inbox.relay import decide_recipient
from services.smtp_inbox.sorting import address_mail, choose_local_key
from services.smtp_inbox.taking import Taken, decide_refusal, take, take_instructions
from services.smtp_inbox.unread import see_off
from shared.acceptance import Origin, Streamed, Submission
from shared.log import get_logger
from shared.mail.received import name_protocol, render_received
from shared.tracing import current_hop, enter, open_request

if TYPE_CHECKING:
    from services.smtp_inbox.conversation import Conversation

log = get_logger()


def mail(conversation: "Conversation", argument: str) -> None:
    """RFC 5321 4.1.1.2."""
    if not conversation.said.host_name:
        raise Refusal("503 5.5.1 EHLO comes first")
    if conversation.listener.needs_auth and conversation.user is None:
        raise Refusal("530 5.7.0 Authentication required")
    if conversation.transaction.mail is not None:
        raise Refusal("503 5.5.1 There is a mail already: RSET")
    try:
        mail = parse_mail(
            argument,
            extended=conversation.said.extended_smtp,
            max_size=conversation.settings.inbound_smtp_max_size,
            has_auth=conversation.door.authenticator is not None,
        )
    except Refusal as refusal:
        _tell(conversation, Refused(str(refusal), "mailfrom", find_path(argument), []))
        raise
    if (trouble := conversation.door.trouble) is not None:
        log.warning("no mail taken", client=conversation.client, reason=trouble)
        raise Refusal("451 4.3.0 Cannot take mail now, try again later")
    conversation.transaction.mail = mail
    conversation.reply("250 2.1.0 Ok")


def rcpt(conversation: "Conversation", argument: str) -> None:
    """RFC 5321 4.1.1.3; the relay policy."""
    mail, recipients = conversation.transaction.mail, conversation.transaction.recipients
    if mail is None:
        raise Refusal("503 5.5.1 MAIL comes first")
    if conversation.transaction.is_chunked:
        raise Refusal("503 5.5.1 RCPT comes before BDAT: RSET")
    rcpt = parse_rcpt(argument, extended=conversation.said.extended_smtp, smtputf8=mail.smtputf8)
    recipient = rcpt.recipient
    is_local = conversation.door.local.hold(recipient)
    refusal = decide_recipient(may_relay=conversation.may_relay, is_local=is_local, is_routed=rcpt.is_routed)
    if refusal:
        log.warning("relay refused", client=conversation.client, recipient=recipient)
        _tell(conversation, Refused(refusal, "rcptto", mail.reverse_path, [recipient]))
        raise Refusal(refusal)
    if len(recipients) >= conversation.settings.inbound_smtp_max_recipients and recipient not in recipients:
        raise Refusal("452 4.5.3 Too many recipients: send this mail, then another one")
    recipients[recipient] = rcpt
    if is_local:
        conversation.transaction.local.add(recipient)
    conversation.reply("250 2.1.5 Ok")


async def data(conversation: "Conversation", argument: str) -> None:
    """RFC 5321 4.1.1.4: receive the mail, take responsibility for it, and only then 250."""
    expect_nothing(argument)
    mail, recipients = conversation.transaction.mail, conversation.transaction.recipients
    if mail is None:
        raise Refusal("503 5.5.1 MAIL comes first")
    if conversation.transaction.is_chunked:
        raise Refusal("503 5.5.1 BDAT has begun this mail: RSET")
    if not recipients:
        raise Refusal("554 5.5.1 No valid recipients")
    async with ending(conversation):
        conversation.reply("354 End with <CRLF>.<CRLF>")
        intake = open_intake(conversation, mail, list(recipients.values()))
        try:
            timeout = conversation.settings.inbound_smtp_idle_timeout.total_seconds()
            await conversation.read_content(ContentReader(intake.keeper), timeout)
            await conclude(conversation, intake)
        finally:
            intake.keeper.release()


@asynccontextmanager
async def ending(conversation: "Conversation") -> AsyncIterator[None]:
    """The end of a mail: from here to its reply the process does not stop. Whatever the reply, the mail is forgotten."""
    conversation.is_busy = True
    try:
        # No trace is taken from a stranger's mail: one begins here.
        with enter(open_request("smtp receive", {"network.protocol.name": "smtp"})):
            yield
            conversation.reset()
            await conversation.flush()
    finally:
        conversation.is_busy = False
    if conversation.is_stopping:
        conversation.unread = None  # just written: there was no time to take it, and doubt counts as read
        conversation.end("421 4.3.2 Going down, come again")


@dataclass(frozen=True, slots=True)
class Intake:
    """A mail whose content comes in."""

    transaction: str
    """Its id."""
    mail: MailArgument
    recipients: list[RcptArgument]
    local: frozenset[str]
    """Those of them that are local."""
    keeper: ContentKeeper
    """Has our Received header in front. Whoever opens the intake releases it."""


def open_intake(conversation: "Conversation", mail: MailArgument, recipients: list[RcptArgument]) -> Intake:
    """Ready for the content."""
    settings, transaction = conversation.settings, str(uuid4())
    received = render_received(
        helo=conversation.said.host_name or "",
        remote_ip=conversation.client,
        by=conversation.door.hostname,
        ident=transaction,
        now=datetime.now(UTC),
        protocol=name_protocol(
            extended=conversation.said.extended_smtp,
            secure=conversation.is_tls,
            authenticated=conversation.user is not None,
            utf8=mail.smtputf8,
        ),
        recipient=recipients[0].recipient if len(recipients) == 1 else None,
    )
    budgets: tuple[Budget, ...] = conversation.door.budgets(conversation)
    keeper = ContentKeeper(
        received,
        limit=settings.inbound_smtp_max_size,
        bare=settings.inbound_smtp_bare_newlines,
        budgets=budgets,
        streaming=conversation.door.streaming,
        sample=settings.refused_max_content if settings.rabbitmq_refused else 0,
    )
    return Intake(transaction, mail, recipients, frozenset(conversation.transaction.local), keeper)


async def conclude(conversation: "Conversation", intake: Intake) -> None:
    """The content is complete: refuse it, or take responsibility, and say so."""
    mail, content = intake.mail, intake.keeper.take_content()
    refusal = decide_refusal(intake.keeper, content, conversation.settings)
    if not refusal:
        instructed = take_instructions(content, may_relay=conversation.may_relay)
        refusal = instructed.refusal
    if refusal:
        log.warning("mail refused", client=conversation.client, reason=refusal)
        tell_content(conversation, intake, content, refusal)
        conversation.refuse(refusal)
        _trace(intake, refusal)
        return
    key = choose_local_key(instructed.content, conversation.settings) if intake.local else ""
    submission = Submission(
        channel="smtp",
        reverse_path=instructed.properties.get("envelope", mail.reverse_path),
        recipients=[
            address_mail(
                rcpt.recipient, merge_dsn(mail, rcpt, instructed.properties), key if rcpt.recipient in intake.local else ""
            )
            for rcpt in intake.recipients
        ],
        content=b"" if isinstance(instructed.content, Streamed) else instructed.content,
        streamed=instructed.content if isinstance(instructed.content, Streamed) else None,
        origin=Origin(
            f"user {conversation.user}" if conversation.user else conversation.client, intake.keeper.compute_digest(content)
        ),
        properties=instructed.properties,
        source={"connection": _describe(conversation)},
        hostname=conversation.door.hostname,
        transaction=intake.transaction,
    )
    del content, instructed
    taken = await take(conversation.door.acceptance, submission)
    if taken.refusal:
        tell_content(conversation, intake, submission.streamed or submission.content, taken.refusal)
    _answer(conversation, taken)
    _trace(intake, taken.refusal or "250")
    await see_off(conversation, taken)


def _trace(intake: Intake, reply: str) -> None:
    """What the trace tells of a mail; of the reply its code, for its text may quote the mail."""
    if (hop := current_hop()) is None:
        return
    hop.tell(
        {
            "mailwarren.transaction": intake.transaction,
            "mailwarren.recipients": len(intake.recipients),
            "mailwarren.code": int(reply[:3]),
        }
    )
    if reply.startswith("4"):
        hop.fail("not accepted now")


def merge_dsn(mail: MailArgument, rcpt: RcptArgument, instructed: Mapping[str, Any]) -> dict[str, Any]:
    """The property ``dsn`` of one recipient, when anything is asked: of the X-MQ headers, MAIL and RCPT the first that says a field."""
    dsn = {**mail.dsn, **rcpt.dsn, **instructed.get("dsn", {})}
    return {"dsn": dsn} if dsn else {}


def _answer(conversation: "Conversation", taken: Taken) -> None:
    if taken.refusal:
        conversation.refuse(taken.refusal)
        return
    conversation.errors = conversation.junk = 0
    for accepted in taken.accepted:
        log.info(
            "accepted", id=accepted.id, recipient=accepted.recipient, transaction=taken.transaction, client=conversation.client
        )
        conversation.reply(f"250-2.0.0 {accepted.id} for <{accepted.recipient}>")
    conversation.reply("250 2.0.0 Accepted")


def tell_content(conversation: "Conversation", intake: Intake, content: bytes | Streamed, refusal: str) -> None:
    """Tell of a mail that was refused after its content had come."""
    keeper, recipients = intake.keeper, [rcpt.recipient for rcpt in intake.recipients]
    shown, missing = keeper.sample, keeper.thrown
    if keeper.verdict is Verdict.FINE:
        shown = content.head + content.beginning if isinstance(content, Streamed) else content
        missing = content.size - len(shown) if isinstance(content, Streamed) else 0
    _tell(conversation, Refused(refusal, "message", intake.mail.reverse_path, recipients, shown, missing))


def _tell(conversation: "Conversation", refused: Refused) -> None:
    conversation.door.refused.tell(refused, {"connection": _describe(conversation)}, conversation.door.hostname)


def _describe(conversation: "Conversation") -> dict[str, Any]:
    """The property ``connection`` of the message."""
    local = conversation.transport.get_extra_info("sockname") or ("", 0)
    return {
        "local-ip": local[0],
        "local-port": local[1],
        "remote-ip": conversation.client,
        "remote-port": conversation.remote.port if conversation.remote else 0,
        "secure": conversation.is_tls,
        "user": conversation.user,
        "helo": conversation.said.host_name,
    }
