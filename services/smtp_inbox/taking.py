"""The end of a mail: what is refused for its content, and how responsibility is taken. The reply says which."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from services.smtp_inbox.content import ContentReader, Verdict
from services.smtp_inbox.metrics import BROKEN, INCOMING
from services.smtp_inbox.settings import ServiceSettings
from shared.acceptance import Acceptance, Accepted, Submission
from shared.log import get_logger
from shared.mail.received import count_received
from shared.trouble import BrokerLost, Unavailable

log = get_logger()

INSTRUCTION = re.compile(rb"^x-mq-", re.IGNORECASE | re.MULTILINE)
"""A header that tells us how to deliver. Ignored, it would reach the recipient, and the mail would not be sent as was asked."""

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


def find_body(content: bytes) -> int:
    """Where the header section ends."""
    end = content.find(b"\r\n\r\n")
    return len(content) if end < 0 else end


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
    if INSTRUCTION.search(content, 0, find_body(content)):
        return "554 5.5.4 Headers X-MQ-... are not built yet: without them the mail is accepted"
    if count_received(content) - 1 >= settings.inbound_smtp_max_hops:
        return "554 5.4.6 Too many hops: the mail runs in a circle"
    return ""


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
