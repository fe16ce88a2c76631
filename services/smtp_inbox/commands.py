"""The commands that we know, and what holds for each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.smtp_inbox import greeting, mailing

if TYPE_CHECKING:
    from services.smtp_inbox.conversation import Conversation

MAIL_EXTRA = 26 + 10 + 17
"""Octets that SIZE, SMTPUTF8 and BODY add to a MAIL command (RFC 1870 3, RFC 6531 3.4, RFC 6152 2)."""
RCPT_EXTRA = 10
"""RFC 6531 3.1: octets that SMTPUTF8 adds to paths."""


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


def help_(conversation: "Conversation", argument: str) -> None:
    """RFC 5321 4.1.1.8."""
    conversation.reply(f"214 2.0.0 {' '.join(sorted(COMMANDS))}")


COMMANDS: Mapping[str, Command] = {
    "HELO": Command(greeting.helo, is_last=True, is_junk=True),
    "EHLO": Command(greeting.ehlo, is_last=True, is_junk=True),
    "STARTTLS": Command(greeting.starttls, is_last=True, is_junk=True),
    "MAIL": Command(mailing.mail, MAIL_EXTRA),
    "RCPT": Command(mailing.rcpt, RCPT_EXTRA),
    "DATA": Command(mailing.data, is_last=True),
    "RSET": Command(greeting.rset, is_junk=True),
    "NOOP": Command(greeting.noop, is_junk=True),
    "VRFY": Command(greeting.vrfy, is_junk=True),
    "HELP": Command(help_, is_junk=True),
    "QUIT": Command(greeting.quit_),
}
NOT_BUILT = frozenset({"AUTH", "BDAT", "EXPN", "ETRN", "TURN", "XCLIENT", "XFORWARD"})
LONGEST_EXTRA = max(command.extra for command in COMMANDS.values())
