"""When is the next attempt, and when is it too late? Pure functions of settings, message and attempt."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.delivery.settings import RetrySettings
from shared.wire.instructions import Instructions
from shared.wire.message import Message

JITTER = 0.1
"""Share of a configured interval by which the wait may differ, so that a burst of mail does not come back as a burst."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The rules of retrying for one message."""

    deadline: datetime
    """No attempt begins at or after it."""
    most_attempts: int
    """0 = unlimited."""
    intervals: Sequence[timedelta]
    jitter: float
    """0 when the message gave its own intervals: it gets exactly what it asked for."""

    def wait_after(self, attempt: int, ident: str) -> timedelta:
        """How long after attempt number ``attempt`` (from 1) the next one is. The same for the same (ident, attempt)."""
        interval = self.intervals[min(attempt, len(self.intervals)) - 1]
        spread = zlib.crc32(f"{ident}:{attempt}".encode()) / 0xFFFFFFFF * 2 - 1
        return interval * (1 + self.jitter * spread)

    def is_over(self, attempt: int, now: datetime) -> bool:
        """Is attempt number ``attempt`` not to be made any more?"""
        return now >= self.deadline or (self.most_attempts > 0 and attempt > self.most_attempts)


def _add(moment: datetime, duration: timedelta) -> datetime:
    """Cut at the end of the calendar: a ``nextattempt`` in the year 9999 is legal."""
    latest = datetime.max.replace(tzinfo=moment.tzinfo)
    return moment + duration if duration < latest - moment else latest


def decide_schedule(message: Message, instructions: Instructions, settings: RetrySettings) -> Schedule:
    """The message's own properties, else the settings."""
    started = message.seen
    if instructions.not_before is not None and not message.results:
        started = max(started, instructions.not_before)
    most = instructions.most_attempts
    return Schedule(
        deadline=instructions.deadline or _add(started, settings.max_delivertime),
        most_attempts=settings.max_attempts if most is None else most,
        intervals=instructions.intervals or settings.retry_interval,
        jitter=0.0 if instructions.intervals else JITTER,
    )
