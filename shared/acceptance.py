"""Taking responsibility for a mail: store, publish confirmed and routed, and only then say 250 or 202. Both inboxes come here.

If this process dies after storing and before publishing, an orphan payload is left: the archiver sweeps it. If it dies after
publishing and before the reply, the client sends again: a duplicate SMTP cannot avoid.
"""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4

from shared.mail.headers import parse_extract
from shared.trouble import Unavailable
from shared.wire.document import render_document
from shared.wire.message import OURS, PAYLOAD, render_inline_content
from shared.wire.times import render_time


class PayloadStore(Protocol):
    """What acceptance needs of a message store (``shared.storage.payloads``)."""

    async def store(self, key: str, content: bytes) -> None:
        """Keep ``content`` durably under ``key``. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A recipient's mail, ready to be published."""

    key: str
    """Routing key."""
    mail: bytes
    record: bytes
    """The same without the content."""


class Publish(Protocol):
    """What acceptance needs of a publisher."""

    async def __call__(self, mails: Sequence[Ready]) -> None:
        """Publish; return when all are confirmed and routed. Raises Unavailable or BrokerLost."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient of a submission."""

    address: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    """Message properties of this recipient alone (``dsn``)."""
    key: str = ""
    """Routing key (``local``, ``reports``); "": that of the acceptance."""
    is_inline: bool = False
    """The content rides in the message, however large: its readers know no store."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A mail that somebody hands to us."""

    channel: str
    """``smtp`` or ``json``."""
    reverse_path: str
    """"" is the null reverse-path."""
    recipients: Sequence[Recipient]
    content: bytes
    """The RFC 5322 message as it shall leave, trace header included."""
    source: Mapping[str, Any]
    """The property ``connection`` (SMTP) or ``http``: {name: {…}}."""
    hostname: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    """Properties for every recipient (``strategy``, ``retries``, what we do not know)."""
    transaction: str = field(default_factory=lambda: str(uuid4()))
    """Shared by its recipients. An inbox that gives it writes it into its Received header, too."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A recipient that we took responsibility for."""

    id: str
    message_id: str
    recipient: str


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The one place where responsibility is taken."""

    store: PayloadStore
    publish: Publish
    key: str
    """Routing key for mail that came in (``inbox``)."""
    threshold: int
    """Content of up to this many bytes rides in the message, larger goes to the store (``storage-threshold``)."""
    patience: timedelta = timedelta(seconds=60)
    """``data-processing-timeout``: later than this after the end of the content, nothing is accepted any more."""

    async def accept(self, submissions: Sequence[Submission], *, now: datetime | None = None) -> list[list[Accepted]]:
        """Take responsibility for all submissions, or for none (some may have been published all the same).

        Returns the accepted recipients of each submission. Raises Unavailable or BrokerLost.
        """
        began = time.monotonic()
        moment = now or datetime.now(UTC)
        prepared = [prepare(submission, moment, self.threshold, self.key) for submission in submissions]
        stored = [self.store.store(item.key, item.content) for item in prepared if item.key]
        if stored:
            await _all(stored)
        # The last look at the clock before responsibility is taken: after this, always 250, even late.
        if time.monotonic() - began > self.patience.total_seconds():
            raise Unavailable("storing took longer than data-processing-timeout")
        await self.publish([mail for item in prepared for mail in item.mails])
        return [list(item.accepted) for item in prepared]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is stored and published for one submission."""

    key: str | None
    """Key in the message store; None when the content rides in the messages."""
    content: bytes
    mails: tuple[Ready, ...]
    """For each recipient."""
    accepted: tuple[Accepted, ...]


def prepare(submission: Submission, now: datetime, threshold: int, routing_key: str) -> Prepared:
    """Everything that can be decided before anything is durable. Pure but for the new ids."""
    transaction = submission.transaction
    content = submission.content
    extracted = parse_extract(content)
    is_stored = len(content) > threshold and not all(recipient.is_inline for recipient in submission.recipients)
    key = payload_key(transaction, now) if is_stored else None
    common: dict[str, Any] = {
        **_strip(submission.properties),
        "envelope": submission.reverse_path,
        "transaction": transaction,
        "recipients-total": len(submission.recipients),
        "channel": submission.channel,
        "received": render_time(now),
        "seen": render_time(now),
        "hostname": submission.hostname,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "return-path": _first(extracted["headers"].get("return-path")) or submission.reverse_path,
        **submission.source,
    }
    inline = render_inline_content(content) if key is None or any(one.is_inline for one in submission.recipients) else {}
    mails, accepted = [], []
    for recipient in submission.recipients:
        ident = str(uuid4())
        message_id = str(recipient.properties.get("message-id") or common.get("message-id") or ident)
        document = common | _strip(recipient.properties)
        document |= {"id": ident, "message-id": message_id, "recipient": recipient.address}
        record = {name: value for name, value in document.items() if name not in PAYLOAD} | {"extracted": extracted}
        payload = {"key": key} if key and not recipient.is_inline else inline
        if key and not recipient.is_inline:
            record["key"] = key
        mail = render_document(document | payload | {"extracted": extracted})
        mails.append(Ready(recipient.key or routing_key, mail, render_document(record)))
        accepted.append(Accepted(ident, message_id, recipient.address))
    return Prepared(key, content, tuple(mails), tuple(accepted))


def payload_key(ident: str, now: datetime) -> str:
    """The key of a payload in the message store: ``v1/yyyy/mm/dd/<id>``."""
    return f"v1/{now:%Y/%m/%d}/{ident}"


def _strip(properties: Mapping[str, Any]) -> dict[str, Any]:
    """What we publish is believed: a client's own ``results``, ``outbound`` or payload ``key`` must not get in with it."""
    return {name: value for name, value in properties.items() if name not in OURS and name not in PAYLOAD}


def _first(value: str | list[str] | None) -> str | None:
    return value[0] if isinstance(value, list) else value


async def _all(awaitables: Sequence[Any]) -> None:
    for outcome in await asyncio.gather(*awaitables, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
