"""Mail that is about to wait leaves its content in the store (``storage-policy`` ``out`` and ``all``), so that wait queues carry none.

Only then: a mail that is delivered at its first attempt would be written and deleted for nothing, its content being safe in RabbitMQ.

The store is out of reach: the mail waits with its content in it, as it would under the policy ``in``. It is in our hands and nothing
is lost by that; to hold it until the store is back would be worse.

If this process dies after storing and before the mail is published, the same is stored again under the same key; of mail that an
application published an orphan is left, and the archiver sweeps it.
"""

import asyncio
import hashlib
import time
from datetime import timedelta

from prometheus_client import Counter

from shared.log import get_logger
from shared.storage.contents import Contents, own_key
from shared.storage.keys import InvalidKey, KeyTaken
from shared.submission import payload_key
from shared.trouble import Unavailable
from shared.wire.message import Message

log = get_logger()

PATIENCE = timedelta(seconds=10)
"""How long a mail that is to wait is kept for the store."""
REST = 30.0
"""Seconds for which a store that was out of reach is not asked again: a burst of retries must not queue up behind it."""

DEPOSITED = Counter("deposited_payloads", "Mail to be tried later whose content was stored")
CARRIED = Counter("carried_payloads", "Mail to be tried later that kept its content because the store was out of reach")


class Depot:
    """Puts contents away. One per process."""

    def __init__(self, contents: Contents, threshold: int | None, *, patience: timedelta = PATIENCE) -> None:
        """``threshold``: content of more bytes is stored; None: none ever is."""
        self._contents = contents
        self._threshold = threshold
        self._patience = patience.total_seconds()
        self._rests_until = 0.0

    async def put_away(self, message: Message) -> Message:
        """``message`` with its content in the store, or the same object when it keeps it. Never raises for trouble of the store."""
        if self._threshold is None or "key" in message.document:
            return message
        content = self._contents.find_carried(message)
        if content is None or len(content) <= self._threshold:
            return message
        digest = hashlib.sha256(content).hexdigest()
        told = message.document.get("sha256")
        if told is not None and told != digest:
            # Not what its inbox took: whatever that is, it must not get the key that its other recipients share.
            return message
        # All recipients of a submission have the same content, and its row in ``messages`` keeps the one key from the sweep.
        key = own_key(message) if told is None else payload_key(message.transaction, message.seen)
        if not await self._store(message, key, content):
            CARRIED.inc()
            return message
        DEPOSITED.inc()
        return message.with_properties({"key": key, "sha256": digest, "size": len(content)}, without=("mime", "mime64"))

    async def _store(self, message: Message, key: str, content: bytes) -> bool:
        if time.monotonic() < self._rests_until:
            return False
        try:
            async with asyncio.timeout(self._patience):
                await self._contents.store.store(key, content)
        except (KeyTaken, InvalidKey) as error:
            # InvalidKey: its ids are an application's, and are no names of ours.
            log.error("its content rides on in the message", id=message.id, reason=str(error))
            return False
        except (Unavailable, TimeoutError) as error:
            self._rests_until = time.monotonic() + REST
            reason = str(error) or f"no answer within {self._patience:g} s"
            log.warning("the store is out of reach: mail waits with its content in it", id=message.id, reason=reason, rest=REST)
            return False
        return True
