"""The command AUTH (RFC 4954) with PLAIN (RFC 4616) and LOGIN: under TLS only, once per session, never in a mail."""

import base64
import binascii
from typing import TYPE_CHECKING

from services.smtp_inbox.arguments import Refusal
from services.smtp_inbox.connection import LineTooLong
from services.smtp_inbox.login import Answer
from services.smtp_inbox.saslprep import prepare

if TYPE_CHECKING:
    from services.smtp_inbox.conversation import Conversation

MECHANISMS = ("PLAIN", "LOGIN")
MAX_LINE = 12_288
"""Octets of a line of AUTH at most, CRLF included (RFC 4954 4)."""
AUTH_EXTRA = MAX_LINE - 512

TOO_LONG = "500 5.5.6 Authentication line too long"
REPLIES = {
    Answer.YES: "235 2.7.0 Authentication succeeded",
    Answer.NO: "535 5.7.8 Authentication credentials invalid",
    Answer.UNAVAILABLE: "454 4.7.0 Temporary authentication failure",
    Answer.TOO_MANY_ADDRESS: "421 4.7.0 Too many failed logins from your address, come again later",
    Answer.TOO_MANY_USER: "454 4.7.0 Temporary authentication failure",
}
"""None of them tells whether there is such a user."""


def is_offered(conversation: "Conversation") -> bool:
    """Whether AUTH can be used now."""
    return conversation.door.authenticator is not None and conversation.is_tls and conversation.user is None


async def auth(conversation: "Conversation", argument: str) -> None:
    """RFC 4954 4."""
    mechanism, _, initial = argument.partition(" ")
    _check_state(conversation, mechanism.upper())
    try:
        if mechanism.upper() == "PLAIN":
            name, password = parse_plain(await _read_response(conversation, initial, ""))
        else:
            name = _decode_text(await _read_response(conversation, initial, "Username:"))
            password = _decode_text(await _read_response(conversation, "", "Password:"))
        name, password = prepare(name), prepare(password)
    except ValueError:
        # Not a name or not a password: said in the same words as a wrong one, and as slowly.
        name = password = ""
    authenticator = conversation.door.authenticator
    assert authenticator is not None  # noqa: S101 - _check_state
    conversation.deadline = None
    answer = await authenticator.decide(name, password, conversation.client)
    match answer:
        case Answer.YES:
            conversation.user = name
            conversation.reply(REPLIES[answer])
        case Answer.TOO_MANY_ADDRESS:
            conversation.end(REPLIES[answer])
        case _:
            conversation.refuse(REPLIES[answer])


def _check_state(conversation: "Conversation", mechanism: str) -> None:
    """Raises Refusal when AUTH is not for here and now."""
    if conversation.door.authenticator is None:
        raise Refusal("502 5.5.1 AUTH is not offered here")
    if not conversation.said.extended_smtp:
        raise Refusal("503 5.5.1 EHLO comes first")
    if not conversation.is_tls:
        raise Refusal("538 5.7.11 Encryption required: STARTTLS comes first")
    if conversation.user is not None:
        raise Refusal("503 5.5.1 Authenticated already")
    if conversation.transaction.mail is not None:
        raise Refusal("503 5.5.1 There is a mail already: RSET")
    if not mechanism:
        raise Refusal("501 5.5.4 Syntax: AUTH mechanism [initial-response]")
    if mechanism not in MECHANISMS:
        raise Refusal(f"504 5.5.4 Mechanism not offered, expected {' or '.join(MECHANISMS)}")


async def _read_response(conversation: "Conversation", initial: str, challenge: str) -> bytes:
    """What the client says to a challenge; ``initial``: what it has said with the command. Raises Refusal, Gone."""
    if initial:
        # RFC 4954 4: "=" is an initial response of no octets.
        return b"" if initial == "=" else decode(initial.encode())
    conversation.reply(f"334 {base64.b64encode(challenge.encode()).decode()}")
    try:
        line = await conversation.read_line(MAX_LINE, conversation.settings.inbound_smtp_command_timeout.total_seconds())
    except LineTooLong as error:
        if not error.ends_in_crlf:
            conversation.end(TOO_LONG)
        raise Refusal(TOO_LONG) from None
    if not line.endswith(b"\r\n"):
        # As with commands: what stands behind it is not run.
        conversation.end("501 5.5.2 A line ends in CRLF")
    if line == b"*\r\n":
        raise Refusal("501 5.7.0 Authentication cancelled")
    return decode(line[:-2])


def decode(text: bytes) -> bytes:
    """Base64 in its one form: nothing but its alphabet, padded, no bits left over (RFC 4648 3.5). Raises Refusal."""
    try:
        octets = base64.b64decode(text, validate=True)
    except binascii.Error:
        octets = b""
    if base64.b64encode(octets) != text:
        raise Refusal("501 5.5.2 Not base64")
    return octets


def parse_plain(response: bytes) -> tuple[str, str]:
    """(name, password) of a PLAIN response, ``[authzid] NUL authcid NUL password`` (RFC 4616 2). Raises ValueError.

    To act for somebody else is nobody's right here: an authzid must be empty or the name itself.
    """
    parts = response.split(b"\0")
    if len(parts) != 3:
        raise ValueError("expected two NULs")
    acts_for, name, password = map(_decode_text, parts)
    if acts_for and prepare(acts_for) != prepare(name):
        raise ValueError("expected no other authorization identity")
    return name, password


def _decode_text(octets: bytes) -> str:
    text = octets.decode()
    if "\0" in text:
        raise ValueError("a NUL")
    return text
