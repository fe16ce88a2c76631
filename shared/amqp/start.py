"""How a process that works with RabbitMQ starts: connect (waiting for the broker), verify the topology, hand out the publisher."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from shared.amqp.connection import connect
from shared.amqp.publisher import Publisher
from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.verify import verify
from shared.process import Runtime


@asynccontextmanager
async def open_pipeline(
    settings: BrokerSettings, runtime: Runtime, *, publishes: Sequence[str], consumes: str | None = None
) -> AsyncIterator[Publisher]:
    """A publisher, once everything is there that the process needs.

    ``publishes``: routing keys. ``consumes``: the queue, by default ``rabbitmq-queue``; "" = none. Raises BadSetting with a sentence
    that names what is missing.
    """
    queue = settings.rabbitmq_queue if consumes is None else consumes
    looking = await connect(settings.rabbitmq_address, name=f"{runtime.service} verifies", verify=settings.rabbitmq_verify)
    try:
        await verify(settings, looking, queue, publishes)
    finally:
        await looking.close()
    publisher = await Publisher.open(settings, name=runtime.service)
    try:
        yield publisher
    finally:
        await publisher.close()
