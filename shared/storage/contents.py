"""Where the content of a mail is, and getting it: in the message itself, in the store, or made from a structured mail."""

import hashlib
from dataclasses import dataclass

from shared.mail.content import normalise_newlines
from shared.mail.structured import StructuredMailError, render_mail
from shared.storage.payloads import MissingPayload, Store
from shared.wire.message import Message, parse_inline_content
from shared.wire.result import Result, State


@dataclass(frozen=True, slots=True)
class NoContent:
    """Why there is nothing to send, as an attempt tells it."""

    state: State
    result: Result
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """Finds contents, the same way for every sender."""

    store: Store
    client_key_prefix: str
    """Keys that a publisher may name itself begin with this; "" = none."""
    domain: str
    """For the Message-ID of structured mail that has none."""

    async def fetch(self, message: Message) -> bytes | NoContent:
        """The content of ``message`` with CRLF line ends. Raises Unavailable when the store is out of reach."""
        found = await self._find(message)
        return found if isinstance(found, NoContent) else normalise_newlines(found)

    async def _find(self, message: Message) -> bytes | NoContent:
        try:
            inline = parse_inline_content(message)
        except ValueError as error:
            return NoContent(State.PROCESS, Result.INVALID, str(error))
        if inline is not None:
            return inline
        structured, key = message.document.get("mime"), message.document.get("key")
        if isinstance(structured, dict):
            try:
                # The same bytes at every attempt: a duplicate must be one that can be recognised.
                return render_mail(structured, now=message.seen, message_id_domain=self.domain, ident=message.id)
            except StructuredMailError as error:
                return NoContent(State.RESPONSIVE, Result.ERROR, str(error))
        if isinstance(key, str) and key:
            return await self._fetch(message, key)
        return NoContent(State.PROCESS, Result.INVALID, "mime: missing, and neither mime64 nor key is there")

    async def _fetch(self, message: Message, key: str) -> bytes | NoContent:
        # Our inboxes write the checksum; a publisher's own key has none and must be allowed.
        checksum = message.document.get("sha256") if message.channel != "amqp" else None
        if checksum is None and not (self.client_key_prefix and key.startswith(self.client_key_prefix)):
            expected = (
                f"a key beginning with {self.client_key_prefix!r}" if self.client_key_prefix else "none (client-key-prefix)"
            )
            return NoContent(State.PROCESS, Result.INVALID, f"key: {key[:200]!r}: expected {expected}")
        try:
            content = await self.store.fetch(key)
        except MissingPayload:
            return NoContent(State.STORAGE, Result.ERROR)
        if checksum is not None and hashlib.sha256(content).hexdigest() != checksum:
            return NoContent(State.STORAGE, Result.INVALID)
        return content
