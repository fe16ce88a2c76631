"""Batches on their way into the wait queues, which are bounded: an endpoint that is down for a day must not fill the disk of the mail."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import orjson

from services.webhook.metrics import DROPPED
from shared.amqp.frame import Frame
from shared.amqp.publisher import Refused, Trouble
from shared.log import get_logger
from shared.tracing import current_hop
from shared.trouble import BrokerLost
from shared.wire.publication import Publication, Step, with_trace

log = get_logger()

HOLD = "webhook.wait.30s"
"""The wait queue for what is held."""
TURNS = 3
"""How often RabbitMQ may refuse a batch, half a second apart, before it is dropped: the queue is full, and is so for minutes."""


class Publish(Protocol):
    """``Publisher.publish_each``."""

    async def __call__(self, publications: Sequence[Publication], *, turns: int | None) -> list[Trouble | None]:
        """What became of each."""


async def put_aside(handle: Callable[[Frame], Awaitable[Step]], publish: Publish, frame: Frame) -> Step:
    """What ``handle`` returned, published, but for what is left to the loop. What the wait queues refuse is dropped and counted.

    Raises what ``handle`` does, and BrokerLost.
    """
    step = await handle(frame)
    if not step.publications:
        return step
    hop = current_hop()
    publications = with_trace(step.publications, hop.trace if hop is not None else None)
    left: list[Publication] = []
    for publication, outcome in zip(publications, await publish(publications, turns=TURNS), strict=True):
        if isinstance(outcome, BrokerLost):
            raise outcome
        if isinstance(outcome, Refused):
            _drop(publication)
        elif outcome is not None:
            left.append(publication)
    return Step(tuple(left), step.confirmed)


def _drop(publication: Publication) -> None:
    batch = orjson.loads(publication.body)
    endpoint, events = batch["endpoint"][:100], len(batch["events"])
    DROPPED.labels(endpoint, "full").inc(events)
    log.error("events dropped: the wait queue is full", endpoint=endpoint, events=events, queue=publication.exchange)
