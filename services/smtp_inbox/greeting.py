"""The commands that lead to no mail: HELO, EHLO, STARTTLS, RSET, NOOP, VRFY, QUIT."""

import ssl
from typing import TYPE_CHECKING

from services.smtp_inbox import authenticating
from services.smtp_inbox.arguments import Refusal, expect_nothing, parse_helo
from services.smtp_inbox.connection import Gone

if TYPE_CHECKING:
    from services.smtp_inbox.conversation import Conversation


def helo(conversation: "Conversation", argument: str) -> None:
    """RFC 5321 4.1.1.1."""
    _greet(conversation, argument, extended=False)
    conversation.reply(f"250 {conversation.door.hostname}")


def ehlo(conversation: "Conversation", argument: str) -> None:
    """RFC 5321 4.1.1.1; only what is built is offered."""
    _greet(conversation, argument, extended=True)
    lines = [conversation.door.hostname, "PIPELINING", f"SIZE {conversation.settings.inbound_smtp_max_size}"]
    if conversation.door.tls is not None and not conversation.is_tls:
        lines.append("STARTTLS")
    if authenticating.is_offered(conversation):
        lines.append(f"AUTH {' '.join(authenticating.MECHANISMS)}")
    lines += ["ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING"]
    for line in lines[:-1]:
        conversation.reply(f"250-{line}")
    conversation.reply(f"250 {lines[-1]}")


def _greet(conversation: "Conversation", argument: str, *, extended: bool) -> None:
    name = parse_helo(argument)
    conversation.reset()
    conversation.said.host_name, conversation.said.extended_smtp = name, extended


def noop(conversation: "Conversation", argument: str) -> None:
    """RFC 5321 4.1.1.9."""
    conversation.reply("250 2.0.0 Ok")


def rset(conversation: "Conversation", argument: str) -> None:
    """RFC 5321 4.1.1.5."""
    expect_nothing(argument)
    conversation.reset()
    conversation.reply("250 2.0.0 Ok")


def vrfy(conversation: "Conversation", argument: str) -> None:
    """RFC 5321 4.1.1.6, 7.3: whether an address exists is nobody's business."""
    if not argument:
        raise Refusal("501 5.5.4 Syntax: VRFY address")
    conversation.reply("252 2.5.0 Send a mail, and see")


def quit_(conversation: "Conversation", argument: str) -> None:
    """RFC 5321 4.1.1.10."""
    expect_nothing(argument)
    conversation.hang_up("221 2.0.0 Bye")
    raise Gone


async def starttls(conversation: "Conversation", argument: str) -> None:
    """RFC 3207."""
    expect_nothing(argument)
    context: ssl.SSLContext | None = conversation.door.tls
    if context is None or conversation.is_tls or not conversation.said.extended_smtp:
        raise Refusal("503 5.5.1 No STARTTLS here and now")
    conversation.reply("220 2.0.0 Ready to start TLS")
    await conversation.start_tls(context)
    conversation.forget()
