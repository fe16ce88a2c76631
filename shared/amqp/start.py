"""How a process that works with RabbitMQ starts: connect (waiting for the broker), verify the topology, hand out the publisher."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from shared.amqp.connection import connect
from shared.amqp.publisher import Publisher
from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.default import WAITS
from shared.amqp.topology.verify import find_lost, verify
from shared.process import Runtime
from shared.trouble import BrokerLost

LOOK_AGAIN = 60.0
"""Seconds between two looks at the bindings, where ``rabbitmq-api`` is set."""


@asynccontextmanager
async def open_pipeline(
    settings: BrokerSettings,
    runtime: Runtime,
    *,
    publishes: Sequence[str],
    consumes: str | None = None,
    waits: Sequence[str] = WAITS,
    look_again: float = LOOK_AGAIN,
) -> AsyncIterator[Publisher]:
    """A publisher, once everything is there that the process needs; the process ends when a binding is lost later on.

    ``publishes``: routing keys. ``consumes``: the queue, by default ``rabbitmq-queue``; "" = none. ``waits``: the wait exchanges that
    it needs then. Raises BadSetting with a sentence that names what is missing.
    """
    queue = settings.rabbitmq_queue if consumes is None else consumes
    looking = await connect(settings.rabbitmq_address, name=f"{runtime.service} verifies", verify=settings.rabbitmq_verify)
    try:
        await verify(settings, looking, queue, publishes, waits)
    finally:
        await looking.close()
    publisher = await Publisher.open(settings, name=runtime.service)
    looking_again = asyncio.ensure_future(_watch(settings, runtime, queue, publishes, waits, look_again))
    try:
        yield publisher
    finally:
        looking_again.cancel()
        await publisher.close()


async def _watch(
    settings: BrokerSettings, runtime: Runtime, queue: str, publishes: Sequence[str], waits: Sequence[str], pause: float
) -> None:
    """A result whose copy for the records leads nowhere is confirmed all the same (BCC): nobody would be told."""
    keys = [key for key in dict.fromkeys(publishes) if key]
    while settings.rabbitmq_api and settings.rabbitmq_exchange:
        await asyncio.sleep(pause)
        if lost := await find_lost(settings, queue, keys, waits):
            runtime.fail(BrokerLost(f"the topology was changed: {', '.join(lost)}"))
            return
