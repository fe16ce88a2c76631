"""From records to batches: who wants to know what, gathered for a moment.

As the recorder commits by itself, what is made here is published here: it is confirmed before the loop acks the records.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from services.webhook.batch import make_batches
from services.webhook.events import Event, parse_events
from services.webhook.metrics import DROPPED
from services.webhook.settings import ServiceSettings
from shared.amqp.frame import Frame
from shared.delivery.webhooks import Endpoint
from shared.trouble import BadMessage
from shared.wire.publication import Publication


class Gatherer:
    """The handler of the queue ``webhook``."""

    def __init__(
        self,
        settings: ServiceSettings,
        endpoints: Callable[[], Mapping[str, Endpoint]],
        publish: Callable[[Iterable[Publication]], Awaitable[None]],
        *,
        is_fresh: Callable[[], bool],
    ) -> None:
        """``endpoints``: those in force; raises Unavailable when none were ever seen. ``publish`` returns when all is confirmed.
        ``is_fresh``: do the endpoints follow Postgres?"""
        self._settings = settings
        self._endpoints = endpoints
        self._publish = publish
        self._is_fresh = is_fresh

    async def handle_batch(self, frames: Sequence[Frame]) -> Mapping[int, str]:
        """Publish what they tell, in batches for every endpoint that wants any; index → reason of the frames to be parked.

        Raises Unavailable.
        """
        settings, now = self._settings, datetime.now(UTC)
        endpoints = self._endpoints()
        events, wrong = _read(frames)
        publications: list[Publication] = []
        for name, endpoint in endpoints.items():
            # By id: the same thing told twice is one event.
            wanted = {event.id: event.document for event in events if endpoint.wants(event.kind, event.tags)}
            if endpoint.is_enabled is False and self._is_fresh():
                DROPPED.labels(name, "disabled").inc(len(wanted))
                continue
            documents: list[Mapping[str, Any]] = list(wanted.values())
            batches = make_batches(
                name, documents, now=now, most=settings.webhook_batch_size, octets=settings.webhook_batch_bytes
            )
            publications += [batch.render(settings.webhook_batches) for batch in batches]
        await self._publish(publications)
        return wrong


def _read(frames: Sequence[Frame]) -> tuple[list[Event], dict[int, str]]:
    events: list[Event] = []
    wrong: dict[int, str] = {}
    for index, frame in enumerate(frames):
        try:
            events += parse_events(frame)
        except BadMessage as error:
            wrong[index] = str(error)
    return events, wrong
