"""A mail that an inbox takes: what the client handed over, and what is stored and published of it. Pure but for new ids."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import uuid4

from shared.mail.headers import parse_extract
from shared.wire.document import render_document
from shared.wire.message import OURS, PAYLOAD, render_inline_content
from shared.wire.times import render_time


class Upload(Protocol):
    """What acceptance needs of an upload of the message store (``shared.storage.payloads``)."""

    async def read(self) -> bytes:
        """The whole content. Raises Unavailable."""

    async def commit(self, key: str) -> None:
        """Keep the content durably under ``key``. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """Content that went to the message store as it came, and is not in memory. Whoever began the upload discards it."""

    head: bytes
    """Its header section, with the empty line at the end."""
    size: int
    sha256: str
    upload: Upload
    beginning: bytes = b""
    """The first octets behind the head."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient of a submission."""

    address: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    """Message properties of this recipient alone (``dsn``)."""
    key: str = ""
    """Routing key (``local``, ``reports``), where the mail ends: its record says so at once. "": that of the acceptance."""
    is_inline: bool = False
    """The content rides in the message, however large: its readers know no store."""
    id: str = ""
    """Given by an inbox that must give the same one when it is asked again; "": a new one."""


@dataclass(frozen=True, slots=True)
class Origin:
    """By what a mail is known again when its client sends it a second time."""

    client: str
    """The user, or the address of the client."""
    digest: str
    """Of the content as the client sent it."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A mail that somebody hands to us."""

    channel: str
    """``smtp`` or ``json``."""
    reverse_path: str
    """"" is the null reverse-path."""
    recipients: Sequence[Recipient]
    content: bytes
    """The RFC 5322 message as it shall leave, trace header included; empty when it is ``streamed``."""
    source: Mapping[str, Any]
    """The property ``connection`` (SMTP) or ``http``: {name: {…}}."""
    hostname: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    """Properties for every recipient (``strategy``, ``retries``, what we do not know)."""
    transaction: str = field(default_factory=lambda: str(uuid4()))
    """Shared by its recipients. An inbox that gives it writes it into its Received header, too."""
    streamed: Streamed | None = None
    """Large content that is on its way to the store already; None: it is in ``content``."""
    origin: Origin | None = None
    """None: this mail is not known again when it comes a second time."""
    key: str = ""
    """A client's own key: the content lies in the message store under it, nobody here has seen it, and ``content`` is empty."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A recipient that we took responsibility for."""

    id: str
    message_id: str
    recipient: str


def name_submission(submission: Submission) -> str:
    """The same for the same mail from the same client, whoever its recipients are; "" when it cannot be known again."""
    origin = submission.origin
    if origin is None:
        return ""
    parts = (submission.channel, origin.client, submission.reverse_path, origin.digest)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Ready:
    """A recipient's mail, ready to be published."""

    key: str
    """Routing key."""
    mail: bytes
    record: bytes
    """The same without the content."""
    event: str = "accepted"
    """What the record tells: ``accepted``, or ``success`` when the queue it is published to is where the mail ends."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is stored and published for one submission."""

    key: str | None
    """Key in the message store; None when the content rides in the messages."""
    content: bytes
    mails: tuple[Ready, ...]
    """For each recipient."""
    accepted: tuple[Accepted, ...]
    streamed: Streamed | None = None
    """What is committed under ``key`` in place of ``content``."""


def prepare(
    submission: Submission,
    now: datetime,
    threshold: int | None,
    routing_key: str,
    *,
    recipients: Sequence[Recipient] | None = None,
    whole: bytes = b"",
) -> Prepared:
    """Everything that can be decided before anything is durable. Pure but for the new ids.

    ``threshold``: content of more octets is stored; None: none is, whatever its size. ``recipients``: those of the submission that are
    still to be published, None: all. ``whole``: streamed content that was read back for recipients who get it in the message.
    """
    recipients = submission.recipients if recipients is None else recipients
    content, streamed = submission.content, submission.streamed
    if streamed is not None:
        head, size, sha256 = streamed.head, streamed.size, streamed.sha256
    else:
        head, size, sha256 = content, len(content), hashlib.sha256(content).hexdigest()
        whole = content
    is_large = streamed is not None or (threshold is not None and size > threshold)
    is_stored = is_large and not all(recipient.is_inline for recipient in recipients)
    extracted = parse_extract(head)
    key = submission.key or (payload_key(submission.transaction, now) if is_stored else None)
    # Of a client's own payload nothing is known here, and without a checksum it is fetched as it is.
    common = _describe(submission, extracted, {} if submission.key else {"size": size, "sha256": sha256}, now)
    inline = render_inline_content(whole) if key is None or any(one.is_inline for one in recipients) else {}
    facts = {} if submission.key else {"extracted": extracted}
    mails, accepted = [], []
    for recipient in recipients:
        ident = recipient.id or str(uuid4())
        message_id = str(recipient.properties.get("message-id") or common.get("message-id") or ident)
        document = common | _strip(recipient.properties)
        document |= {"id": ident, "message-id": message_id, "recipient": recipient.address}
        record = {name: value for name, value in document.items() if name not in PAYLOAD} | facts
        payload = {"key": key} if key and not recipient.is_inline else inline
        if key and not recipient.is_inline:
            record["key"] = key
        mails.append(_make_ready(recipient.key, routing_key, document | payload | facts, record, now))
        accepted.append(Accepted(ident, message_id, recipient.address))
    return Prepared(None if submission.key else key, content, tuple(mails), tuple(accepted), streamed)


def _describe(submission: Submission, extracted: Mapping[str, Any], measures: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """What the messages of all recipients say."""
    moment = render_time(now)
    return {
        **_strip(submission.properties),
        "envelope": submission.reverse_path,
        "transaction": submission.transaction,
        "recipients-total": len(submission.recipients),
        "channel": submission.channel,
        "received": moment,
        "seen": moment,
        "hostname": submission.hostname,
        **measures,
        "return-path": _first(extracted["headers"].get("return-path")) or submission.reverse_path,
        **submission.source,
    }


def _make_ready(own_key: str, key: str, mail: Mapping[str, Any], record: Mapping[str, Any], now: datetime) -> Ready:
    """``own_key``: of the recipient; the mail ends there, in a queue of an application, and nobody else will tell what became of it."""
    if not own_key:
        return Ready(key, render_document(mail), render_document(record))
    description = f"handed over with the routing key {own_key}"
    result = {"attempt": 1, "time": render_time(now), "state": "message", "result": "accepted", "description": description}
    return Ready(own_key, render_document(mail), render_document({**record, "results": [result]}), "success")


def payload_key(ident: str, now: datetime) -> str:
    """The key of a payload in the message store: ``v1/yyyy/mm/dd/<id>``."""
    return f"v1/{now:%Y/%m/%d}/{ident}"


def _strip(properties: Mapping[str, Any]) -> dict[str, Any]:
    """What we publish is believed: a client's own ``results``, ``outbound`` or payload ``key`` must not get in with it."""
    return {name: value for name, value in properties.items() if name not in OURS and name not in PAYLOAD}


def _first(value: str | list[str] | None) -> str | None:
    return value[0] if isinstance(value, list) else value
