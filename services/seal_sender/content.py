"""The content of a mail, ready for the seal service: from the message itself, from the store, or from a structured mail."""

import hashlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.mail.content import normalise_newlines
from shared.mail.headers import parse_extract
from shared.mail.structured import StructuredMailError, render_mail
from shared.storage.payloads import MissingPayload, Store
from shared.wire.message import Message, parse_inline_content
from shared.wire.result import Result, State


@dataclass(frozen=True, slots=True)
class Content:
    """The message as it is sent."""

    mime: bytes
    """With CRLF line ends."""
    extracted: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NoContent:
    """Why there is nothing to send."""

    state: State
    result: Result
    description: str | None = None


async def load_content(message: Message, store: Store, *, client_key_prefix: str) -> Content | NoContent:
    """The content of ``message``. Raises Unavailable when the store is out of reach."""
    found = await _find(message, store, client_key_prefix)
    if isinstance(found, NoContent):
        return found
    mime = normalise_newlines(found)
    return Content(mime, parse_extract(mime))


async def _find(message: Message, store: Store, client_key_prefix: str) -> bytes | NoContent:
    try:
        inline = parse_inline_content(message)
    except ValueError as error:
        return NoContent(State.PROCESS, Result.INVALID, str(error))
    if inline is not None:
        return inline
    structured, key = message.document.get("mime"), message.document.get("key")
    if isinstance(structured, dict):
        try:
            return render_mail(structured, now=datetime.now(UTC), message_id_domain=socket.gethostname())
        except StructuredMailError as error:
            return NoContent(State.RESPONSIVE, Result.ERROR, str(error))
    if isinstance(key, str) and key:
        return await _fetch(message, key, store, client_key_prefix)
    return NoContent(State.PROCESS, Result.INVALID, "mime: missing, and neither mime64 nor key is there")


async def _fetch(message: Message, key: str, store: Store, client_key_prefix: str) -> bytes | NoContent:
    checksum = message.document.get("sha256") if message.channel != "amqp" else None
    if checksum is None and not (client_key_prefix and key.startswith(client_key_prefix)):
        expected = f"a key beginning with {client_key_prefix!r}" if client_key_prefix else "none (client-key-prefix)"
        return NoContent(State.PROCESS, Result.INVALID, f"key: {key[:200]!r}: expected {expected}")
    try:
        content = await store.fetch(key)
    except MissingPayload:
        return NoContent(State.STORAGE, Result.ERROR)
    if checksum is not None and hashlib.sha256(content).hexdigest() != checksum:
        return NoContent(State.STORAGE, Result.INVALID)
    return content
