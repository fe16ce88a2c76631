"""Where the content of a mail is, and getting it: in the message itself, in the store, or made from a structured mail."""

import hashlib
from dataclasses import dataclass

from shared.mail.content import normalise_newlines
from shared.mail.structured import StructuredMailError, render_mail
from shared.storage.payloads import MissingPayload, Store
from shared.submission import payload_key
from shared.wire.message import Message, parse_inline_content
from shared.wire.result import Result, State

LOOKS = 2
"""How often a payload is fetched before its checksum is believed to be wrong: that is final, and it may be only on the way."""


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

    def find_carried(self, message: Message) -> bytes | None:
        """The content that rides in ``message``, as it is; None when it lies in the store, or there is none that could be sent."""
        found = self._find_carried(message)
        return None if isinstance(found, NoContent) else found

    async def _find(self, message: Message) -> bytes | NoContent:
        carried = self._find_carried(message)
        if carried is not None:
            return carried
        key = message.document.get("key")
        if isinstance(key, str) and key:
            return await self._fetch(message, key)
        return NoContent(State.PROCESS, Result.INVALID, "mime: missing, and neither mime64 nor key is there")

    def _find_carried(self, message: Message) -> bytes | NoContent | None:
        try:
            inline = parse_inline_content(message)
        except ValueError as error:
            return NoContent(State.PROCESS, Result.INVALID, str(error))
        structured = message.document.get("mime")
        if inline is not None or not isinstance(structured, dict):
            return inline
        try:
            # The same bytes at every attempt: a duplicate must be one that can be recognised.
            return render_mail(structured, now=message.seen, message_id_domain=self.domain, ident=message.id)
        except StructuredMailError as error:
            return NoContent(State.RESPONSIVE, Result.ERROR, str(error))

    async def _fetch(self, message: Message, key: str) -> bytes | NoContent:
        # Whoever of us stored it wrote the checksum; a publisher's own key has none and must be allowed.
        is_ours = message.channel != "amqp" or key == own_key(message)
        checksum = message.document.get("sha256") if is_ours else None
        if checksum is None and not (self.client_key_prefix and key.startswith(self.client_key_prefix)):
            expected = (
                f"a key beginning with {self.client_key_prefix!r}" if self.client_key_prefix else "none (client-key-prefix)"
            )
            return NoContent(State.PROCESS, Result.INVALID, f"key: {key[:200]!r}: expected {expected}")
        for _ in range(LOOKS):
            try:
                content = await self.store.fetch(key)
            except MissingPayload:
                return NoContent(State.STORAGE, Result.ERROR)
            if checksum is None or hashlib.sha256(content).hexdigest() == checksum:
                return content
        return NoContent(State.STORAGE, Result.INVALID)


def own_key(message: Message) -> str:
    """The key under which a sender of ours stores the content of mail that an application published: always the same."""
    return payload_key(message.id, message.seen)
