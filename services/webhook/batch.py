"""A batch: events for one endpoint, posted together until it is taken, as it lies in the queue ``webhook.batches``. Pure.

What is posted is fixed when the batch is made: each attempt sends the same bytes under the same id.
"""

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import orjson

from shared.amqp.frame import Frame
from shared.delivery.schedule import JITTER, Schedule
from shared.delivery.waiting import WEBHOOK_WAIT_QUEUES, choose_wait_queue
from shared.trouble import BadMessage
from shared.wire.document import parse_document
from shared.wire.publication import EVENT, Publication
from shared.wire.times import parse_time, render_time

BATCH = "batch"
"""Our AMQP header ``event`` of a batch: without it a message is none, whatever its body says."""
FIRST_BOUNCE = timedelta(seconds=5)
"""What a batch waits that has found no turn; twice that the next time, and so on."""
LONGEST_BOUNCE = timedelta(minutes=30)
_MOST_DOUBLINGS = 20


@dataclass(frozen=True, slots=True)
class Batch:
    """Events for one endpoint."""

    endpoint: str
    events: Sequence[Mapping[str, Any]]
    created: datetime
    attempts: int = 0
    """Requests that were made so far."""
    due: datetime | None = None
    """Not before."""
    bounces: int = 0
    """How often it has found no turn since the last attempt."""

    @property
    def id(self) -> str:
        """The header ``webhook-id``: the same for the same events to the same endpoint."""
        names = [self.endpoint, *(str(event["id"]) for event in self.events)]
        return "msg_" + hashlib.sha256("\n".join(names).encode()).hexdigest()[:32]

    @property
    def body(self) -> bytes:
        """What is posted."""
        return orjson.dumps({"events": self.events})

    def is_over(self, now: datetime, age: timedelta) -> bool:
        """Is it too old to be posted?"""
        return now - self.created >= age

    def wait_after(self, attempt: int, intervals: Sequence[timedelta]) -> timedelta:
        """How long after attempt number ``attempt`` (from 1) the next one is; by the schedule of mail."""
        schedule = Schedule(deadline=self.created, most_attempts=0, intervals=intervals, jitter=JITTER)
        return schedule.wait_after(attempt, self.id)

    def wait_after_bounce(self) -> timedelta:
        """How long it waits that finds no turn now. Up to half less, so that those that bounced together come back one by one: the time in
        which they do grows until the endpoint is quick enough for it."""
        longest = min(FIRST_BOUNCE * (1 << min(self.bounces, _MOST_DOUBLINGS)), LONGEST_BOUNCE)
        return longest * (1 - zlib.crc32(f"{self.id}:{self.bounces}".encode()) / 0xFFFFFFFF / 2)

    def render(self, key: str) -> Publication:
        """To be posted now."""
        return Publication(key, self._render(), headers={EVENT: BATCH})

    def render_wait(self, key: str, due: datetime, now: datetime) -> Publication:
        """To be posted at ``due``: through wait queues, which hand back by routing key."""
        waiting = replace(self, due=due)
        exchange = choose_wait_queue(due - now, WEBHOOK_WAIT_QUEUES)
        return Publication(key, waiting._render(), exchange=exchange, headers={EVENT: BATCH})

    def divide(self) -> list["Batch"]:
        """Each event alone."""
        return [replace(self, events=[event]) for event in self.events]

    def _render(self) -> bytes:
        document: dict[str, Any] = {"endpoint": self.endpoint, "created": render_time(self.created), "attempts": self.attempts}
        due = {} if self.due is None else {"due": render_time(self.due)}
        bounces = {"bounces": self.bounces} if self.bounces else {}
        return orjson.dumps(document | due | bounces | {"events": self.events})


def parse_batch(frame: Frame) -> Batch:
    """The batch in a message. Raises BadMessage."""
    if not frame.is_ours or frame.event != BATCH:
        raise BadMessage("not a batch: this queue is filled by webhook alone")
    document = parse_document(frame.body, frame.encoding)
    endpoint, events, attempts = (document.get(name) for name in ("endpoint", "events", "attempts"))
    bounces = document.get("bounces", 0)
    if not isinstance(bounces, int) or bounces < 0:
        raise BadMessage(f"bounces: {bounces!r}: expected a number from 0")
    if not isinstance(endpoint, str) or not isinstance(attempts, int) or not isinstance(events, list) or not events:
        raise BadMessage("not a batch: expected endpoint, created, attempts and events")
    if not all(isinstance(event, dict) and "id" in event for event in events):
        raise BadMessage("events: expected a list of objects with an id")
    try:
        due = document.get("due")
        created = parse_time(document.get("created", ""))
        return Batch(endpoint, events, created, attempts, None if due is None else parse_time(due), bounces)
    except ValueError as error:
        raise BadMessage(f"created or due: {error}") from None


def make_batches(endpoint: str, events: Sequence[Mapping[str, Any]], *, now: datetime, most: int, octets: int) -> Iterator[Batch]:
    """All ``events`` in their order, in batches of at most ``most`` events and ``octets`` bytes; a larger event goes alone."""
    group: list[Mapping[str, Any]] = []
    size = 0
    for event in events:
        length = len(orjson.dumps(event))
        if group and (len(group) == most or size + length > octets):
            yield Batch(endpoint, group, now)
            group, size = [], 0
        group.append(event)
        size += length
    if group:
        yield Batch(endpoint, group, now)
