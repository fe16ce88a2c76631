"""An open consumer: its connection, its channel, its acks, and whether the broker still knows of it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiormq
from aiormq.exceptions import AMQPError

from shared.amqp.acks import Acks
from shared.amqp.connection import connect, translating, when_closed
from shared.amqp.frame import Frame
from shared.amqp.publisher import Publisher
from shared.amqp.settings import BrokerSettings
from shared.amqp.sifting import Sieve
from shared.process import Runtime
from shared.trouble import BrokerLost

SETTLE_TIME = 0.5
"""Seconds between the last ack and the close. RabbitMQ stashes the acks of a quorum queue beyond 32 that are not applied yet, and
forgets them when the channel closes: the messages would be handled twice. Measured on 3.10.8: of 40 acks 7 were lost, of 1,000 68;
after 20 ms none."""
WATCH_INTERVAL = 30.0
"""Seconds between two looks at whether the broker still knows us as a consumer."""


@dataclass(slots=True)
class Consuming:
    """An open consumer: its connection, channel and acks."""

    settings: BrokerSettings
    runtime: Runtime
    publisher: Publisher
    connection: aiormq.Connection
    channel: Any
    acks: Acks
    lost: "asyncio.Future[str]"
    tags: list[str] = field(default_factory=list)
    """Consumer tags."""

    async def consume(self, prefetch: int) -> None:
        """One more consumer on the channel, with room for ``prefetch`` messages in hand. Raises BrokerLost."""
        queue = self.settings.rabbitmq_queue
        arguments = {"x-priority": self.settings.rabbitmq_consumer_priority}
        with translating(f"while consuming {queue!r}"):
            await self.channel.basic_qos(prefetch_count=prefetch)
            answer = await self.channel.basic_consume(queue, _never, arguments=arguments, timeout=10)
        self.tags.append(str(answer.consumer_tag))

    async def watch_until_stopping(self) -> None:
        """Return when the process is asked to stop; raise BrokerLost when the connection, channel or consumer is gone."""
        stopping = asyncio.ensure_future(self.runtime.stopping.wait())
        try:
            while not stopping.done():
                waits: set[asyncio.Future[Any]] = {stopping, self.lost, self.publisher.lost, self.runtime.failed}
                done, _ = await asyncio.wait(waits, timeout=WATCH_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
                self.runtime.raise_failure()
                if self.lost in done or self.publisher.lost in done:
                    gone = self.lost if self.lost in done else self.publisher.lost
                    raise BrokerLost(f"RabbitMQ: {gone.result()}")
                if not done:
                    await self._check_registered()
        finally:
            stopping.cancel()

    async def cancel(self) -> None:
        """No further deliveries; what was delivered stays ours until acked. Raises BrokerLost."""
        with translating("while cancelling the consumer"):
            for tag in self.tags:
                await self.channel.basic_cancel(tag, timeout=10)

    async def close(self) -> None:
        """Ack what is finished and close the connection; RabbitMQ hands what was not acked to another consumer."""
        await self.acks.stop()
        if not self.lost.done():
            await asyncio.sleep(SETTLE_TIME)
        # Closing the connection drops acks that wait to be written; the answer to Channel.Close comes after all of them.
        with suppress(AMQPError, OSError, RuntimeError, TimeoutError):
            await self.channel.close(timeout=5)
        await self.connection.close()

    async def _check_registered(self) -> None:
        # Consumers were lost after trouble without any sign on the connection.
        with translating("while looking for our consumer"):
            declared = await self.channel.queue_declare(self.settings.rabbitmq_queue, passive=True, timeout=10)
        if not declared.consumer_count:
            raise BrokerLost(f"RabbitMQ no longer knows a consumer on queue {self.settings.rabbitmq_queue!r}")


async def open_consumer(
    settings: BrokerSettings,
    runtime: Runtime,
    publisher: Publisher,
    deliver: Callable[[Acks, Frame], None],
    *,
    prefetch: int | None = None,
) -> Consuming:
    """Connect and consume ``rabbitmq-queue``, ``prefetch`` messages in hand (default: ``rabbitmq-qos``).

    ``deliver`` is called for each message, in the order in which RabbitMQ sent them, and must not block. Raises BrokerLost.
    """
    sieve = Sieve()
    connection = await connect(
        settings.rabbitmq_address, name=f"{runtime.service} consumes", verify=settings.rabbitmq_verify, wrap=sieve.wrap
    )
    with translating("while opening a channel"):
        channel = await connection.channel(publisher_confirms=False)
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def gone(reason: str) -> None:
        if not lost.done():
            lost.set_result(reason)

    when_closed(connection, gone)
    when_closed(channel, gone)
    channel.on_consumer_cancel_callbacks.add(lambda _: gone(f"queue {settings.rabbitmq_queue!r} was deleted or moved"))
    acks = Acks(channel)

    def take(frame: Frame) -> None:
        try:
            deliver(acks, frame)
        except Exception as error:  # noqa: BLE001 - the message would lie unacked, and the connection be taken for broken
            runtime.fail(error)

    sieve.take = take
    consuming = Consuming(settings, runtime, publisher, connection, channel, acks, lost)
    await consuming.consume(settings.rabbitmq_qos if prefetch is None else prefetch)
    return consuming


async def _never(message: object) -> None:
    raise AssertionError(f"the library got a delivery that was ours: {message!r:.100}")
