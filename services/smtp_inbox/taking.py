"""The end of a mail: what is refused for its content, and how responsibility is taken. The reply says which."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.smtp_inbox.content import ContentReader, Verdict
from services.smtp_inbox.metrics import BROKEN, INCOMING
from services.smtp_inbox.settings import ServiceSettings
from shared.acceptance import Acceptance, Accepted, Submission
from shared.log import get_logger
from shared.mail.received import count_received
from shared.trouble import BrokerLost, Unavailable
from shared.wire.mq_headers import strip_mq_headers, take_mq_headers

log = get_logger()

TROUBLE = "451 4.3.0 Cannot take this mail now, try again later"
"""All a client learns of our troubles."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a mail."""

    transaction: str
    accepted: Sequence[Accepted] = ()
    refusal: str = ""
    """The reply when nothing was accepted."""

    def count_unread(self) -> None:
        """The client left before it could read 250: it may send the mail again."""
        if self.accepted:
            BROKEN.inc()
            log.warning("client left before it could read 250, and may send again", transaction=self.transaction)


def decide_refusal(reader: ContentReader, content: bytes, settings: ServiceSettings) -> str:
    """The reply to content that breaks a rule; "" when there is nothing wrong with it. ``content`` has our own Received header."""
    INCOMING.total += 1
    match reader.verdict:
        case Verdict.TOO_LARGE:
            return f"552 5.3.4 Larger than {settings.inbound_smtp_max_size} octets"
        case Verdict.TOO_MUCH:
            return "452 4.3.1 Too much mail at once, try again later"
        case Verdict.ILLEGAL:
            return "550 5.5.2 The content has a NUL, or a CR or LF alone: lines end in CRLF"
    if count_received(content) - 1 >= settings.inbound_smtp_max_hops:
        return "554 5.4.6 Too many hops: the mail runs in a circle"
    return ""


@dataclass(frozen=True, slots=True)
class Instructed:
    """A mail without its ``X-MQ-...`` headers, and what they asked for."""

    content: bytes
    properties: Mapping[str, Any] = field(default_factory=dict)
    """Of the message, for all its recipients."""
    refusal: str = ""
    """The reply when they cannot be understood: ignored, the mail would not be sent as was asked."""


def take_instructions(content: bytes, *, may_relay: bool) -> Instructed:
    """Read and remove the headers that tell us how to deliver.

    Only clients that may relay can use them. From others they are removed unread: such a mail may have been written for another
    server, or forwarded with them, and to refuse it would punish a sender who asked us for nothing.
    """
    if not may_relay:
        return Instructed(strip_mq_headers(content))
    try:
        content, properties = take_mq_headers(content)
    except ValueError as error:
        return Instructed(content, refusal=f"550 5.5.2 {error}")
    return Instructed(content, properties)


async def take(acceptance: Acceptance, submission: Submission) -> Taken:
    """Take responsibility, or say that we cannot. Never raises for any trouble of ours."""
    began = time.perf_counter()
    try:
        (accepted,) = await acceptance.accept([submission])
    except (Unavailable, BrokerLost) as error:
        log.error("no responsibility taken", transaction=submission.transaction, reason=str(error))
        return Taken(submission.transaction, refusal=TROUBLE)
    except Exception:
        log.exception("no responsibility taken", transaction=submission.transaction)
        return Taken(submission.transaction, refusal=TROUBLE)
    finally:
        INCOMING.observe(time.perf_counter() - began)
    INCOMING.stored += 1
    return Taken(submission.transaction, accepted)
