"""Each attempt once on this host: what the journal knows decides whether it is made, told as it was, or left to somebody else.

A message with an id of ours is looked up whenever it comes: RabbitMQ hands it to a sibling at once, and a broker that was killed in the
wrong moment doubles some without the mark "redelivered". A message that an application published has no id that will be there
again, so its body stands for it, and only when it is handed out again: the same body twice is otherwise two mails.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from prometheus_client import Counter

from shared.amqp.frame import Frame
from shared.delivery.finished import Finished
from shared.delivery.journal import Crashed, Done, Ended, InWork, Journal, Known, Unknown
from shared.log import get_logger
from shared.trouble import BadMessage, Unavailable
from shared.wire.message import Message

log = get_logger()

MOST_CRASHES = 2
"""A mail that was in work when so many processes died is parked."""
ALONE = 30.0
"""Seconds for which a mail that was in work when a process died keeps the next such mail waiting: whatever kills a process does so
at once, and a slow host must not hold up all that were in work with it."""

DOUBLES = Counter("journal_doubles", "Messages that came again after all had been done for them, and were dropped")
FOUND = Counter("journal_found", "Attempts whose outcome was published from the journal instead of being made again")


@dataclass(slots=True)
class Once:
    """Makes attempts at most once, as far as this host knows."""

    journal: Journal
    _alone: asyncio.Lock = field(default_factory=asyncio.Lock)

    def look(self, frame: Frame, message: Message) -> Known:
        """What is known of the attempt that ``message`` asks for: Unknown, Crashed, Ended or Done.

        Raises Unavailable when somebody has it in hand, and BadMessage when it has killed too many processes.
        """
        if not frame.is_ours:
            known: Known = (self.journal.claim(_digest(frame)) if frame.redelivered else None) or Unknown()
        else:
            known = self.journal.look(message.id, message.attempt)
        match known:
            case InWork():
                raise Unavailable("this attempt is in hand already: the message is a double")
            case Crashed(times) if times >= MOST_CRASHES:
                self.journal.forget(message.id, message.attempt)
                raise BadMessage(f"{times} processes died while they had attempt {message.attempt} of this mail in work")
            case Done():
                DOUBLES.inc()
                log.warning("a double was dropped: all is done", id=message.id, attempt=message.attempt)
            case Ended():
                FOUND.inc()
                log.warning("not sent again: the attempt stands in the journal", id=message.id, attempt=message.attempt)
        return known

    async def make(self, frame: Frame, message: Message, known: Known, attempt: Callable[[], Awaitable[Finished]]) -> Finished:
        """Make the attempt, written down at both ends. Raises what ``attempt`` raises."""
        if not frame.is_ours:
            finished = await attempt()
            self.journal.end(message.id, finished, _digest(frame))
            return finished
        async with self._room(known):
            self.journal.begin(message.id, message.attempt)
            try:
                finished = await attempt()
            except Unavailable:
                self.journal.forget(message.id, message.attempt)
                raise
            if isinstance(known, Crashed):
                # Nobody knows what the peer got from the process that died.
                finished = replace(finished, attempt=replace(finished.attempt, possible_duplicate=True))
            self.journal.end(message.id, finished)
            return finished

    def confirm(self, ident: str, attempt: int) -> None:
        """Everything that follows from the attempt is confirmed."""
        self.journal.done(ident, attempt)

    @asynccontextmanager
    async def _room(self, known: Known) -> AsyncIterator[None]:
        """One at a time for mails that were in work when a process died: a second crash must not be counted for their neighbours."""
        if not isinstance(known, Crashed):
            yield
            return
        await self._alone.acquire()
        with ExitStack() as stack:
            stack.callback(self._alone.release)
            timer = asyncio.get_running_loop().call_later(ALONE, stack.close)
            try:
                yield
            finally:
                timer.cancel()


def _digest(frame: Frame) -> str:
    return hashlib.sha256(frame.body).hexdigest()
