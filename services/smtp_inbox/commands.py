"""The commands that we know, and what holds for each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.smtp_inbox import authenticating, chunking, greeting, mailing
from shared.mail.dsn import MAX_ENVELOPE_ID, MAX_ORIGINAL_RECIPIENT

if TYPE_CHECKING:
    from services.smtp_inbox.conversation import Conversation

MAIL_EXTRA = 26 + 10 + 17 + len(" RET=FULL") + len(" ENVID=") + MAX_ENVELOPE_ID + 500
"""Octets that SIZE, SMTPUTF8, BODY, DSN and AUTH add to a MAIL command (RFC 1870 3, 6531 3.4, 6152 2, 3461 4.3 and 4.4, 4954 3)."""
RCPT_EXTRA = 10 + len(" NOTIFY=SUCCESS,FAILURE,DELAY") + len(" ORCPT=") + MAX_ORIGINAL_RECIPIENT
"""Octets that SMTPUTF8 and DSN add to a RCPT command (RFC 6531 3.1, RFC 3461 4.1, 4.2)."""


@dataclass(frozen=True, slots=True)
class Command:
    """What holds for a command besides what it does."""

    run: Callable[["Conversation", str], Any]
    extra: int = 0
    """Octets that its line may be longer than others."""
    is_last: bool = False
    """Must be the last of a group of pipelined commands."""
    is_junk: bool = False
    """Leads to no mail."""
    is_followed: bool = False
    """Content comes right behind its line, whatever we think of the line."""


def help_(conversation: "Conversation", argument: str) -> None:
    """RFC 5321 4.1.1.8."""
    conversation.reply(f"214 2.0.0 {' '.join(sorted(COMMANDS))}")


COMMANDS: Mapping[str, Command] = {
    "HELO": Command(greeting.helo, is_last=True, is_junk=True),
    "EHLO": Command(greeting.ehlo, is_last=True, is_junk=True),
    "STARTTLS": Command(greeting.starttls, is_last=True, is_junk=True),
    "AUTH": Command(authenticating.auth, authenticating.AUTH_EXTRA),
    "MAIL": Command(mailing.mail, MAIL_EXTRA),
    "RCPT": Command(mailing.rcpt, RCPT_EXTRA),
    "DATA": Command(mailing.data, is_last=True),
    "BDAT": Command(chunking.bdat, is_followed=True),
    "RSET": Command(greeting.rset, is_junk=True),
    "NOOP": Command(greeting.noop, is_junk=True),
    "VRFY": Command(greeting.vrfy, is_junk=True),
    "HELP": Command(help_, is_junk=True),
    "QUIT": Command(greeting.quit_),
}
NOT_OFFERED = frozenset({"BURL", "EXPN", "ETRN", "ATRN", "SAML", "SEND", "SOML", "TURN", "XCLIENT", "XFORWARD"})
"""Commands that exist elsewhere."""
LONGEST_EXTRA = max(command.extra for command in COMMANDS.values())
