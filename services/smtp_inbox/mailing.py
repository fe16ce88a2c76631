"""The commands of a mail: MAIL, RCPT, DATA, and what is answered at its end."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from services.smtp_inbox.arguments import MailArgument, Refusal, expect_nothing, parse_mail, parse_rcpt
from services.smtp_inbox.content import Budget, ContentReader
from services.smtp_inbox.taking import Taken, decide_refusal, take, take_instructions
from shared.acceptance import Recipient, Submission
from shared.log import get_logger
from shared.mail.received import name_protocol, render_received

if TYPE_CHECKING:
    from services.smtp_inbox.conversation import Conversation

log = get_logger()


def mail(conversation: "Conversation", argument: str) -> None:
    """RFC 5321 4.1.1.2."""
    if not conversation.said.host_name:
        raise Refusal("503 5.5.1 EHLO comes first")
    if conversation.transaction.mail is not None:
        raise Refusal("503 5.5.1 There is a mail already: RSET")
    mail = parse_mail(argument, extended=conversation.said.extended_smtp, max_size=conversation.settings.inbound_smtp_max_size)
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
    recipient = parse_rcpt(argument, extended=conversation.said.extended_smtp, smtputf8=mail.smtputf8)
    if not conversation.door.policy.may_relay(conversation.client):
        log.warning("relay refused", client=conversation.client, recipient=recipient)
        raise Refusal("550 5.7.1 No relay for you")
    if len(recipients) >= conversation.settings.inbound_smtp_max_recipients and recipient not in recipients:
        raise Refusal("452 4.5.3 Too many recipients: send this mail, then another one")
    recipients[recipient] = None
    conversation.reply("250 2.1.5 Ok")


async def data(conversation: "Conversation", argument: str) -> None:
    """RFC 5321 4.1.1.4: receive the mail, take responsibility for it, and only then 250."""
    expect_nothing(argument)
    mail, recipients = conversation.transaction.mail, conversation.transaction.recipients
    if mail is None:
        raise Refusal("503 5.5.1 MAIL comes first")
    if not recipients:
        raise Refusal("554 5.5.1 No valid recipients")
    conversation.is_busy = True
    try:
        conversation.reply("354 End with <CRLF>.<CRLF>")
        await _receive(conversation, mail, list(recipients))
        conversation.reset()
        await conversation.flush()
    finally:
        conversation.is_busy = False
    if conversation.is_stopping:
        conversation.end("421 4.3.2 Going down, come again")


async def _receive(conversation: "Conversation", mail: MailArgument, recipients: list[str]) -> None:
    settings, transaction = conversation.settings, str(uuid4())
    received = render_received(
        helo=conversation.said.host_name or "",
        remote_ip=conversation.client,
        by=conversation.door.hostname,
        ident=transaction,
        now=datetime.now(UTC),
        protocol=name_protocol(extended=conversation.said.extended_smtp, secure=conversation.is_tls, utf8=mail.smtputf8),
        recipient=recipients[0] if len(recipients) == 1 else None,
    )
    budgets: tuple[Budget, ...] = conversation.door.budgets(conversation)
    reader = ContentReader(
        received, limit=settings.inbound_smtp_max_size, bare=settings.inbound_smtp_bare_newlines, budgets=budgets
    )
    try:
        await conversation.read_content(reader, settings.inbound_smtp_idle_timeout.total_seconds())
        content = reader.take_content()
        refusal = decide_refusal(reader, content, settings)
        if not refusal:
            instructed = take_instructions(content, may_relay=conversation.door.policy.may_relay(conversation.client))
            refusal = instructed.refusal
        if refusal:
            log.warning("mail refused", client=conversation.client, reason=refusal)
            conversation.refuse(refusal)
            return
        submission = Submission(
            channel="smtp",
            reverse_path=instructed.properties.get("envelope", mail.reverse_path),
            recipients=[Recipient(recipient) for recipient in recipients],
            content=instructed.content,
            properties=instructed.properties,
            source={"connection": _describe(conversation)},
            hostname=conversation.door.hostname,
            transaction=transaction,
        )
        del content, instructed
        _answer(conversation, await take(conversation.door.acceptance, submission))
    finally:
        reader.release()


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
    if conversation.is_gone:
        taken.count_unread()


def _describe(conversation: "Conversation") -> dict[str, Any]:
    """The property ``connection`` of the message."""
    local = conversation.transport.get_extra_info("sockname") or ("", 0)
    remote = conversation.transport.get_extra_info("peername") or ("", 0)
    return {
        "local-ip": local[0],
        "local-port": local[1],
        "remote-ip": conversation.client,
        "remote-port": remote[1],
        "secure": conversation.is_tls,
        "user": None,
        "helo": conversation.said.host_name,
    }
