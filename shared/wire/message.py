"""A mail on its way: one message, one recipient.

The JSON object as it came is kept whole (``document``): what we do not know travels through retries and comes back in the result.
Its property names are MailerQ's. A message is believed about the properties that only our processes write (its id, its attempts)
when one of our processes published it; from anybody else it starts a new life.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from shared.wire.document import WireError, parse_document, render_document
from shared.wire.times import parse_time, render_time

APP_ID = "mailwarren"
"""The AMQP ``app-id`` of every message that our processes publish."""

OURS = frozenset(
    [
        "id",
        "transaction",
        "recipients-total",
        "channel",
        "seen",
        "size",
        "sha256",
        "return-path",
        "outbound",
        "results",
        "extracted",
    ]
)
"""Properties that only our processes write."""

PAYLOAD = ("mime", "mime64", "key")
"""Where the content is: inline as text, inline as base64, or in the message store."""


_IDENT = re.compile(r"[A-Za-z0-9_.@:-]{1,200}")


@dataclass(frozen=True, slots=True)
class Message:
    """One mail to one recipient, with everything that travels with it."""

    document: Mapping[str, Any]
    """The JSON object, our own properties included. Never changed: see ``with_properties``."""

    @property
    def id(self) -> str:
        """Ours alone, one per recipient."""
        return str(self.document["id"])

    @property
    def transaction(self) -> str:
        """Shared by the recipients of one submission."""
        return str(self.document.get("transaction") or self.id)

    @property
    def recipients_total(self) -> int:
        """How many recipients the submission had."""
        total = self.document.get("recipients-total", 1)
        return total if isinstance(total, int) and total > 0 else 1

    @property
    def recipient(self) -> str:
        """RCPT TO as the publisher wrote it; "" when it is missing or not a string (see ``shared.wire.instructions``)."""
        recipient = self.document.get("recipient")
        return recipient if isinstance(recipient, str) else ""

    @property
    def reverse_path(self) -> str:
        """MAIL FROM; "" is the null reverse-path ``<>``."""
        envelope = self.document.get("envelope")
        return "" if not isinstance(envelope, str) or envelope == "<>" else envelope

    @property
    def channel(self) -> str:
        """How it came in: ``smtp``, ``json`` or ``amqp``."""
        return str(self.document.get("channel", "amqp"))

    @property
    def seen(self) -> datetime:
        """When any process of ours saw it first."""
        return parse_time(self.document["seen"])

    @property
    def results(self) -> list[dict[str, Any]]:
        """The attempts so far, oldest first, as on the wire."""
        return list(self._attempts)

    @property
    def _attempts(self) -> list[dict[str, Any]]:
        results = self.document.get("results")
        return results if isinstance(results, list) else []

    @property
    def attempt(self) -> int:
        """Number of the attempt that comes next, from 1."""
        return len(self._attempts) + 1

    @property
    def keeps_payload(self) -> bool:
        """``keepmime``: the content stays in the result and in the store afterwards."""
        return bool(self.document.get("keepmime"))

    def with_properties(self, changes: Mapping[str, Any], *, without: tuple[str, ...] = ()) -> "Message":
        """The same message with other properties; the original stays as it is."""
        document = {**self.document, **changes}
        for name in without:
            if name not in changes:
                document.pop(name, None)
        return Message(document)

    def without_payload(self) -> "Message":
        """As it is published in results: the content removed, unless ``keepmime``."""
        return self if self.keeps_payload else self.with_properties({}, without=PAYLOAD)

    def render(self, encoding: str = "") -> bytes:
        """The body for the wire."""
        return render_document(self.document, encoding)


def parse_message(body: bytes, *, encoding: str | None, is_ours: bool, now: datetime) -> Message:
    """The message in an AMQP body.

    ``is_ours``: the AMQP app-id is ours. From anybody else our own properties are dropped and the message gets a new id.
    Raises WireError when the body is not a JSON object, or one of our own properties has an impossible type.
    """
    document = parse_document(body, encoding)
    if is_ours and "id" in document:
        _check_ours(document)
        return Message(document)
    fresh = {name: value for name, value in document.items() if name not in OURS}
    ident = str(uuid4())
    fresh |= {"id": ident, "transaction": ident, "recipients-total": 1, "channel": "amqp", "seen": render_time(now)}
    return Message(fresh)


def parse_inline_content(message: Message) -> bytes | None:
    """The content that rides in the message itself; None when it is in the store, structured, or missing.

    Raises ValueError when ``mime64`` is not base64 or ``mime`` has a wrong type.
    """
    mime, mime64 = message.document.get("mime"), message.document.get("mime64")
    if mime64 is not None:
        try:
            return base64.b64decode(mime64, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise ValueError("mime64: expected a base64 string") from None
    if isinstance(mime, str):
        return mime.encode()
    if mime is None or isinstance(mime, dict):
        return None
    raise ValueError(f"mime: expected a string or an object, not {type(mime).__name__}")


def render_inline_content(content: bytes) -> dict[str, str]:
    """The property that carries ``content`` in the message: ``mime``, or ``mime64`` when it is not UTF-8."""
    try:
        return {"mime": content.decode()}
    except UnicodeDecodeError:
        return {"mime64": base64.b64encode(content).decode("ascii")}


_KINDS: Mapping[str, type] = {
    "id": str,
    "transaction": str,
    "recipients-total": int,
    "channel": str,
    "seen": str,
    "size": int,
    "sha256": str,
    "return-path": str,
    "outbound": list,
    "results": list,
    "extracted": dict,
}
"""What our own properties are. Anybody who may publish can claim our app-id: a wrong type is parked, it must not end a process."""


def _check_ours(document: Mapping[str, Any]) -> None:
    if not _IDENT.fullmatch(str(document["id"])):
        raise WireError(f"id: {str(document['id'])[:80]!r}: expected 1 to 200 ASCII letters, digits and -_.@:")
    for name, kind in _KINDS.items():
        value = document.get(name)
        # An absent property is fine, null is not; and a bool is no number.
        if name in document and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise WireError(f"{name}: expected {kind.__name__}, not {type(value).__name__}")
    if not document["id"]:
        raise WireError("id: expected a text that is not empty")
    try:
        parse_time(document.get("seen", ""))
    except ValueError as error:
        raise WireError(f"seen: {document.get('seen')!r}: {error}") from None
    if not all(isinstance(attempt, dict) for attempt in document.get("results", [])):
        raise WireError("results: expected a list of objects")
    if not isinstance(document.get("extracted", {}).get("headers", {}), dict):
        raise WireError("extracted.headers: expected an object")
