"""A consumer in a process that also serves others: it goes on while RabbitMQ is away, so a lost consumer is opened again."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from aiormq.exceptions import AMQPError

from shared.amqp.consumer import Consumer
from shared.amqp.frame import Frame
from shared.amqp.publisher import Publisher
from shared.amqp.settings import BrokerSettings
from shared.log import get_logger
from shared.process import Runtime
from shared.trouble import BrokerLost
from shared.wire.publication import Step

log = get_logger()

AGAIN = timedelta(seconds=1)
Handle = Callable[[Frame], Awaitable[Step]]


async def consume_on_and_on(
    settings: BrokerSettings, runtime: Runtime, handle: Handle, *, home: str, verified: asyncio.Event
) -> None:
    """Consume until the process is asked to stop, however often RabbitMQ is lost in between. What was in hand then comes again.

    Begins once the topology is ``verified``. ``handle`` and ``home`` as for ``Consumer``.
    """
    await _first(verified.wait(), runtime.stopping.wait())
    while not runtime.stopping.is_set():
        # A life of its own for each consumer: what fails with the connection ends the consumer, not the process.
        life = Runtime(runtime.service)
        life.stopping = runtime.stopping
        try:
            await _consume(settings, life, handle, home)
        except (BrokerLost, AMQPError, OSError) as error:
            log.warning(
                "lost the consumer, opening it again", queue=settings.rabbitmq_queue, reason=str(error) or type(error).__name__
            )
            await runtime.pause(AGAIN)


async def _consume(settings: BrokerSettings, life: Runtime, handle: Handle, home: str) -> None:
    opening = asyncio.ensure_future(Publisher.open(settings, name=f"{life.service} {settings.rabbitmq_queue}"))
    await _first(opening, life.stopping.wait())
    if not opening.done():
        opening.cancel()
        return
    publisher = opening.result()
    try:
        await Consumer(settings, life, publisher, handle, home=home).run()
    finally:
        with suppress(AMQPError, OSError, RuntimeError):
            await publisher.close()


async def _first(wanted: Awaitable[object], or_else: Awaitable[object]) -> None:
    """Wait for one of them. ``wanted`` goes on when the other came first."""
    second = asyncio.ensure_future(or_else)
    try:
        await asyncio.wait({asyncio.ensure_future(wanted), second}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        second.cancel()
