"""The content of a mail, made ready for DATA: from the message itself, from the store, or from a structured mail."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.smtp_sender.session import Ending
from shared.mail.content import is_seven_bit, normalise_newlines, stuff_dots
from shared.mail.headers import parse_extract
from shared.mail.structured import StructuredMailError, render_mail
from shared.storage.payloads import MissingPayload, Store
from shared.wire.message import Message, parse_inline_content
from shared.wire.result import Result, State


@dataclass(frozen=True, slots=True)
class Content:
    """What goes over the wire after 354."""

    stuffed: bytes
    """CRLF lines, dot-stuffed (RFC 5321 4.5.2), without the final dot."""
    size: int
    """Bytes before dot-stuffing (RFC 1870)."""
    is_eight_bit: bool
    extracted: Mapping[str, Any]


class Contents:
    """Finds and prepares contents."""

    def __init__(self, store: Store, *, client_key_prefix: str, domain: str) -> None:
        """``domain``: for the Message-ID of structured mail that has none."""
        self._store = store
        self._client_key_prefix = client_key_prefix
        self._domain = domain

    async def load(self, message: Message) -> Content | Ending:
        """The content of ``message``, or why there is none. Raises Unavailable when the store is out of reach."""
        raw = await self._find(message)
        if isinstance(raw, Ending):
            return raw
        content = normalise_newlines(raw)
        return Content(stuff_dots(content), len(content), not is_seven_bit(content), parse_extract(content))

    async def _find(self, message: Message) -> bytes | Ending:
        document = message.document
        try:
            inline = parse_inline_content(message)
        except ValueError as error:
            return Ending(State.PROCESS, Result.INVALID, text=str(error))
        if inline is not None:
            return inline
        if isinstance(document.get("mime"), dict):
            try:
                return render_mail(document["mime"], now=datetime.now(UTC), message_id_domain=self._domain)
            except StructuredMailError as error:
                return Ending(State.RESPONSIVE, Result.ERROR, text=str(error))
        key = document.get("key")
        if isinstance(key, str) and key:
            return await self._fetch(message, key)
        return Ending(State.PROCESS, Result.INVALID, text="mime: missing, and neither mime64 nor key is there")

    async def _fetch(self, message: Message, key: str) -> bytes | Ending:
        checksum = message.document.get("sha256") if message.channel != "amqp" else None
        if checksum is None and not (self._client_key_prefix and key.startswith(self._client_key_prefix)):
            expected = (
                f"a key beginning with {self._client_key_prefix!r}" if self._client_key_prefix else "none (client-key-prefix)"
            )
            return Ending(State.PROCESS, Result.INVALID, text=f"key: {key[:200]!r}: expected {expected}")
        try:
            content = await self._store.fetch(key)
        except MissingPayload:
            return Ending(State.STORAGE, Result.ERROR)
        if checksum is not None and hashlib.sha256(content).hexdigest() != checksum:
            return Ending(State.STORAGE, Result.INVALID)
        return content
