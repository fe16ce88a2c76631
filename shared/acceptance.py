"""Taking responsibility for a mail: store, publish confirmed and routed, and only then say 250 or 202. Both inboxes come here.

If this process dies after storing and before publishing, an orphan payload is left: the archiver sweeps it. If it dies after
publishing and before the reply, the client sends again: a duplicate SMTP cannot avoid. What was published although its client
was told no, or was told yes and could not read it, is remembered (``Memory``): when the client sends it again, it is not published
again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from shared.submission import (
    Accepted,
    Origin,
    Prepared,
    Ready,
    Recipient,
    Streamed,
    Submission,
    Upload,
    name_submission,
    payload_key,
    prepare,
)
from shared.trouble import Unavailable

__all__ = [
    "Acceptance", "Accepted", "Memory", "Origin", "PartlyPublished", "PayloadStore", "Prepared", "Publish", "Ready", "Recipient",
    "Streamed", "Submission", "TooLarge", "TooLate", "Upload", "name_submission", "payload_key", "prepare",
]  # fmt: skip

_TOO_LATE = "it took longer than data-processing-timeout"
LARGE_INLINE = 2
"""Large mails at once that are read back from the store to ride in the message: each is in memory about five times."""


class PayloadStore(Protocol):
    """What acceptance needs of a message store (``shared.storage.payloads``)."""

    async def store(self, key: str, content: bytes) -> None:
        """Keep ``content`` durably under ``key``. Raises Unavailable."""


class Publish(Protocol):
    """What acceptance needs of a publisher."""

    async def __call__(self, mails: Sequence[Ready]) -> None:
        """Publish; return when all are confirmed and routed. Raises PartlyPublished, Unavailable or BrokerLost."""


class PartlyPublished(Unavailable):
    """Some mails are confirmed and routed, and others are not, or nobody knows."""

    def __init__(self, reason: str, confirmed: Sequence[bool]) -> None:
        super().__init__(reason)
        self.confirmed = confirmed
        """For each mail."""


class TooLate(Unavailable):
    """It took longer than ``data-processing-timeout``."""


class TooLarge(Exception):
    """Content that must ride in the message makes it larger than RabbitMQ takes."""


class Memory(Protocol):
    """What acceptance needs of a memory of confirmed recipients (``shared.storage.accepted_before``). It never raises."""

    def is_empty(self) -> bool:
        """Nothing can be recalled: the name of a mail costs something to make."""

    def recall(self, name: str) -> Mapping[str, Accepted]:
        """The recipients that were confirmed before, by address."""

    def remember(self, name: str, accepted: Sequence[Accepted]) -> None:
        """These were confirmed, and the client does not know it."""

    def forget(self, name: str, told: Collection[str]) -> None:
        """The client is told now of the recipients with these addresses."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The one place where responsibility is taken."""

    store: PayloadStore
    publish: Publish
    key: str
    """Routing key for mail that came in (``inbox``)."""
    threshold: int | None
    """Content of up to this many bytes rides in the message, larger goes to the store; None: nothing does (``storage-policy``)."""
    patience: timedelta = timedelta(seconds=60)
    """``data-processing-timeout``: later than this after the end of the content, nothing is accepted any more."""
    memory: Memory | None = None
    """None: nothing is remembered."""
    max_message: int | None = None
    """Octets of a message that carries its content; None: however many."""
    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_INLINE))

    async def accept(self, submissions: Sequence[Submission], *, now: datetime | None = None) -> list[list[Accepted]]:
        """Take responsibility for all submissions, or for none (some may have been published all the same).

        Returns the accepted recipients of each submission. Raises Unavailable (TooLate, PartlyPublished), BrokerLost or TooLarge.
        """
        began, moment = time.monotonic(), now or datetime.now(UTC)
        if not any(_is_read_back(submission) for submission in submissions):
            return await self._accept(submissions, [b""] * len(submissions), moment, began)
        async with self._in_time(began):
            await self.turn.acquire()
        try:
            async with self._in_time(began):
                wholes = [await self._read_back(submission) for submission in submissions]
            return await self._accept(submissions, wholes, moment, began)
        finally:
            self.turn.release()

    async def _accept(
        self, submissions: Sequence[Submission], wholes: Sequence[bytes], moment: datetime, began: float
    ) -> list[list[Accepted]]:
        known = [self._recall(submission) for submission in submissions]
        prepared = [self._prepare(*one, moment) for one in zip(submissions, known, wholes, strict=True)]
        stored = [self._store(item) for item in prepared if item.key]
        if stored:
            async with self._in_time(began):
                await _all(stored)
        # The last look at the clock before responsibility is taken: after this, always 250, even late.
        if time.monotonic() - began > self.patience.total_seconds():
            raise TooLate(_TOO_LATE)
        mails = [mail for item in prepared for mail in item.mails]
        try:
            if mails:
                await self.publish(mails)
        except PartlyPublished as partly:
            self._remember_part(submissions, known, prepared, partly.confirmed)
            raise
        return [self._finish(*one) for one in zip(submissions, known, prepared, strict=True)]

    def remember(self, name: str, accepted: Sequence[Accepted]) -> None:
        """The client could not read that its mail of this name (``name_submission``) was accepted. Never raises."""
        if self.memory is not None and name:
            self.memory.remember(name, accepted)

    def _recall(self, submission: Submission) -> Mapping[str, Accepted]:
        if self.memory is None or submission.origin is None or self.memory.is_empty():
            return {}
        return self.memory.recall(name_submission(submission))

    @asynccontextmanager
    async def _in_time(self, began: float) -> AsyncIterator[None]:
        """Gives up when the time is over that began at ``began``. Raises TooLate."""
        try:
            async with asyncio.timeout(began + self.patience.total_seconds() - time.monotonic()):
                yield
        except TimeoutError:
            raise TooLate(_TOO_LATE) from None

    async def _read_back(self, submission: Submission) -> bytes:
        streamed = submission.streamed
        if streamed is None or not _is_read_back(submission):
            return b""
        if self.max_message is not None and streamed.size > self.max_message:
            raise TooLarge
        return await streamed.upload.read()

    def _prepare(self, submission: Submission, before: Mapping[str, Accepted], whole: bytes, now: datetime) -> Prepared:
        recipients = [recipient for recipient in submission.recipients if recipient.address not in before]
        item = prepare(submission, now, self.threshold, self.key, recipients=recipients, whole=whole)
        if self.max_message is not None:
            for ready, one in zip(item.mails, recipients, strict=True):
                is_carrying = one.is_inline or (item.key is None and not submission.key)
                if is_carrying and len(ready.mail) > self.max_message:
                    raise TooLarge
        return item

    async def _store(self, item: Prepared) -> None:
        assert item.key is not None  # noqa: S101 - the caller looks
        if item.streamed is not None:
            await item.streamed.upload.commit(item.key)
        else:
            await self.store.store(item.key, item.content)

    def _remember_part(
        self,
        submissions: Sequence[Submission],
        known: Sequence[Mapping[str, Accepted]],
        prepared: Sequence[Prepared],
        confirmed: Sequence[bool],
    ) -> None:
        rest = iter(confirmed)
        for submission, before, item in zip(submissions, known, prepared, strict=True):
            now = [accepted for accepted in item.accepted if next(rest)]
            if now:
                self.remember(name_submission(submission), [*before.values(), *now])

    def _finish(self, submission: Submission, before: Mapping[str, Accepted], item: Prepared) -> list[Accepted]:
        if not before:
            return list(item.accepted)
        told = {one.address for one in submission.recipients}
        if self.memory is not None and not told.isdisjoint(before):
            # Once only: a client that sends the same again after it was told means another mail. Recipients of other transactions
            # with the same content were not told yet.
            self.memory.forget(name_submission(submission), told)
        now = {accepted.recipient: accepted for accepted in item.accepted}
        return [before.get(one.address) or now[one.address] for one in submission.recipients]


def _is_read_back(submission: Submission) -> bool:
    """It is on its way to the store, and shall ride in a message all the same."""
    return submission.streamed is not None and any(recipient.is_inline for recipient in submission.recipients)


async def _all(awaitables: Sequence[Any]) -> None:
    for outcome in await asyncio.gather(*awaitables, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
