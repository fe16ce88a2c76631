"""Refused mail, for whoever wants to look at it (``rabbitmq-refused``): what was refused, to whom, with which reply.

Published without waiting: a reply is never later for it, and what RabbitMQ cannot take at once is dropped and counted. Only
refusals of mail are told: not mistakes of syntax or order, and not our own troubles, after which the client comes again.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from shared.mail.headers import parse_extract
from shared.wire.document import render_document
from shared.wire.message import render_inline_content
from shared.wire.mq_headers import strip_mq_headers
from shared.wire.times import render_time

TOLD = frozenset(["550", "551", "552", "553", "554"])
"""Codes of refusals that are told: of a mail or a mailbox, for good (RFC 5321 4.2.3)."""
UNTOLD = frozenset(["5.5.1", "5.5.4", "5.1.3", "5.1.7", "5.6.7"])
"""Enhanced codes among them that speak of syntax or order alone (RFC 3463 3.2, 3.6)."""

_PATH = re.compile(r"<([^<>]{0,1000})>")
_REPLY = re.compile(r"(\d{3}) (?:([245]\.\d{1,3}\.\d{1,3}) )?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Refused:
    """A mail, or one recipient of a mail, that was refused."""

    reply: str
    """As the client got it."""
    state: str
    """The command that was refused, by the names of the states of a delivery: ``mailfrom``, ``rcptto``, ``message``."""
    reverse_path: str
    recipients: Sequence[str]
    content: bytes | None = None
    """What came, or the beginning of it; None before DATA."""
    missing: int = 0
    """Octets that came and are not in ``content``."""


@dataclass(frozen=True, slots=True)
class RefusedMail:
    """Tells whoever wants to know."""

    publish: Callable[[str, bytes], None]
    """Publishes without waiting, or drops."""
    key: str
    """``rabbitmq-refused``; "": nobody wants to know."""
    limit: int
    """``refused-max-content``, octets."""

    def tell(self, refused: Refused, source: Mapping[str, Any], hostname: str) -> None:
        """Publish it, when it is the refusal of a mail. ``source``: the property ``connection``; ``hostname``: ours."""
        if self.key and is_told(refused.reply):
            self.publish(self.key, render_refused(refused, source, hostname, limit=self.limit, now=datetime.now(UTC)))


def is_told(reply: str) -> bool:
    """Is this the refusal of a mail, and not of a command?"""
    match = _REPLY.match(reply)
    return match is not None and match[1] in TOLD and match[2] not in UNTOLD


def find_path(argument: str) -> str:
    """What stands in angle brackets in the argument of a command that was refused, however wrong; "" for nothing."""
    match = _PATH.search(argument)
    return match[1] if match else ""


def render_refused(refused: Refused, source: Mapping[str, Any], hostname: str, *, limit: int, now: datetime) -> bytes:
    """The message: as for accepted mail, and ``reply``.

    ``recipients`` are those that the refusal was for; ``recipient`` is there too when it is one. Of the content at most ``limit``
    octets, without the headers that could tell us how to deliver it; ``truncated`` says whether some are missing. JSON whatever the
    octets: what is not UTF-8 is base64 (``mime64``).
    """
    match = _REPLY.match(refused.reply)
    code, status, description = match.groups() if match else ("550", None, refused.reply)
    ident = str(uuid4())
    document: dict[str, Any] = {
        "id": ident,
        "message-id": ident,
        "channel": "smtp",
        "envelope": refused.reverse_path,
        "recipients": list(refused.recipients),
        "received": render_time(now),
        "seen": render_time(now),
        "hostname": hostname,
        **source,
        "reply": {"state": refused.state, "code": int(code), "status": status, "description": description},
    }
    if len(refused.recipients) == 1:
        document["recipient"] = refused.recipients[0]
    if refused.content is not None:
        content = strip_mq_headers(cut_content(refused.content, limit))
        size = len(refused.content) + refused.missing
        document |= {"size": size, "truncated": size > max(limit, 0) or refused.missing > 0, "extracted": parse_extract(content)}
        document |= render_inline_content(content) if limit else {}
    return render_document(document)


def cut_content(content: bytes, limit: int) -> bytes:
    """The first ``limit`` octets, less when that would cut a character of UTF-8 in two."""
    if len(content) <= limit:
        return content
    end = limit
    while end > max(0, limit - 3) and content[end] & 0xC0 == 0x80:
        end -= 1
    return content[:end] if content[end] & 0xC0 != 0x80 else content[:limit]
