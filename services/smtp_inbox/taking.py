"""The end of a mail: what is refused for its content, and how responsibility is taken. The reply says which."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from services.smtp_inbox.keeping import ContentKeeper, Verdict
from services.smtp_inbox.metrics import BROKEN, INCOMING
from services.smtp_inbox.settings import ServiceSettings
from shared.acceptance import Acceptance, Accepted, Streamed, Submission, TooLarge, TooLate, name_submission
from shared.log import get_logger
from shared.mail.received import count_received
from shared.storage.payloads import StoreFull
from shared.trouble import BrokerLost, Unavailable
from shared.wire.mq_headers import strip_mq_headers, take_mq_headers

log = get_logger()

TROUBLE = "451 4.3.0 Cannot take this mail now, try again later"
"""All a client learns of our troubles."""
TOO_LATE = "451 4.4.5 Taking this mail took too long, try again later"
TOO_LARGE_LOCAL = "552 5.3.4 Larger than a local recipient can take"
TOO_LARGE_CARRIED = "552 5.3.4 Larger than can be taken here"
NO_ROOM = "452 4.3.1 No room for this mail now, try again later"


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a mail."""

    transaction: str
    accepted: Sequence[Accepted] = ()
    refusal: str = ""
    """The reply when nothing was accepted."""
    remember: Callable[[], None] | None = None
    """To be called when the client could not read 250."""

    def count_unread(self) -> None:
        """The client left before it could read 250: it may send the mail again, and then gets 250 and no second copy."""
        if self.accepted:
            BROKEN.inc()
            log.warning("client left before it could read 250, and may send again", transaction=self.transaction)
            if self.remember is not None:
                self.remember()


def decide_refusal(keeper: ContentKeeper, content: bytes | Streamed, settings: ServiceSettings) -> str:
    """The reply to content that breaks a rule; "" when there is nothing wrong with it. ``content`` has our own Received header."""
    INCOMING.total += 1
    if keeper.trouble:
        log.error("no responsibility taken", reason=keeper.trouble)
    match keeper.verdict:
        case Verdict.TOO_LARGE:
            return f"552 5.3.4 Larger than {settings.inbound_smtp_max_size} octets"
        case Verdict.HEADER_TOO_LARGE:
            return "552 5.3.4 The header section is too large"
        case Verdict.TOO_MUCH:
            return "452 4.3.1 Too much mail at once, try again later"
        case Verdict.ILLEGAL:
            return "550 5.5.2 The content has a NUL, or a CR or LF alone: lines end in CRLF"
        case Verdict.NO_ROOM:
            return NO_ROOM
        case Verdict.OUR_TROUBLE:
            return TROUBLE
    if count_received(_head(content)) - 1 >= settings.inbound_smtp_max_hops:
        return "554 5.4.6 Too many hops: the mail runs in a circle"
    return ""


def _head(content: bytes | Streamed) -> bytes:
    """What begins with the header section."""
    return content.head if isinstance(content, Streamed) else content


@dataclass(frozen=True, slots=True)
class Instructed:
    """A mail without its ``X-MQ-...`` headers, and what they asked for."""

    content: bytes | Streamed
    properties: Mapping[str, Any] = field(default_factory=dict)
    """Of the message, for all its recipients."""
    refusal: str = ""
    """The reply when they cannot be understood: ignored, the mail would not be sent as was asked."""


def take_instructions(content: bytes | Streamed, *, may_relay: bool) -> Instructed:
    """Read and remove the headers that tell us how to deliver.

    Only clients that may relay can use them. From others they are removed unread: such a mail may have been written for another
    server, or forwarded with them, and to refuse it would punish a sender who asked us for nothing.
    """
    head = _head(content)
    properties: Mapping[str, Any] = {}
    if may_relay:
        try:
            stripped, properties = take_mq_headers(head)
        except ValueError as error:
            return Instructed(content, refusal=f"550 5.5.2 {error}")
    else:
        stripped = strip_mq_headers(head)
    # Streamed content went to the store without them.
    return Instructed(replace(content, head=stripped) if isinstance(content, Streamed) else stripped, properties)


async def take(acceptance: Acceptance, submission: Submission) -> Taken:
    """Take responsibility, or say that we cannot. Never raises for any trouble of ours."""
    began = time.perf_counter()
    try:
        (accepted,) = await acceptance.accept([submission])
    except (Unavailable, BrokerLost) as error:
        log.error("no responsibility taken", transaction=submission.transaction, reason=str(error))
        return Taken(submission.transaction, refusal=_reply_to(error))
    except TooLarge:
        is_local = any(recipient.is_inline for recipient in submission.recipients)
        return Taken(submission.transaction, refusal=TOO_LARGE_LOCAL if is_local else TOO_LARGE_CARRIED)
    except Exception:
        log.exception("no responsibility taken", transaction=submission.transaction)
        return Taken(submission.transaction, refusal=TROUBLE)
    finally:
        INCOMING.observe(time.perf_counter() - began)
    INCOMING.stored += 1
    # Not the submission itself: its content need not stay in memory until the client says something.
    name = name_submission(submission)
    return Taken(submission.transaction, accepted, remember=partial(acceptance.remember, name, accepted))


def _reply_to(error: Exception) -> str:
    if isinstance(error, TooLate):
        return TOO_LATE
    return NO_ROOM if isinstance(error, StoreFull) else TROUBLE
