"""Publishing: persistent, mandatory, confirmed. ``publish_all`` returns when the broker has taken responsibility for every message.

No confirm, or a message that came back: the outcome is unknown, and the same is published again. It may then be there twice, never
not at all.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import aiormq
from aiormq.exceptions import AMQPError, DeliveryError, PublishError
from pamqp import commands

from shared.amqp.connection import connect, translating, when_closed
from shared.amqp.settings import BrokerSettings
from shared.log import get_logger
from shared.trouble import BrokerLost, Unavailable
from shared.wire.message import APP_ID
from shared.wire.publication import Publication

log = get_logger()

CHANNELS = 4
"""One channel publishes one message at a time until the socket has taken it."""


class Unroutable(Unavailable):
    """No queue is bound to the key."""


class Publisher:
    """One connection that only publishes (an alarm of the broker blocks publishing connections)."""

    def __init__(self, settings: BrokerSettings, connection: aiormq.Connection, channels: list[Any]) -> None:
        self._settings = settings
        self._connection = connection
        self._channels = channels
        self._next = 0
        self._window = asyncio.Semaphore(settings.rabbitmq_throttle)
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done, with the reason, when the connection or a channel is gone."""
        for owner in (connection, *channels):
            when_closed(owner, self._close)

    @classmethod
    async def open(cls, settings: BrokerSettings, *, name: str, patience: float | None = None) -> "Publisher":
        """Connect (waiting for the broker, see ``connection.connect``) and open the channels."""
        connection = await connect(
            settings.rabbitmq_address, name=f"{name} publishes", verify=settings.rabbitmq_verify, patience=patience
        )
        with translating("while opening a channel"):
            channels = [await connection.channel(publisher_confirms=True, on_return_raises=True) for _ in range(CHANNELS)]
        return cls(settings, connection, channels)

    async def close(self) -> None:
        """Close the connection. Publishes in flight are lost: wait for them first."""
        await self._connection.close()

    async def publish_all(self, publications: Iterable[Publication]) -> None:
        """Publish and wait for every confirm. Raises Unroutable or BrokerLost; then some may have been published."""
        batch = tuple(publications)
        if len(batch) == 1:
            await self.publish(batch[0])
            return
        outcomes = await asyncio.gather(*map(self.publish, batch), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def publish_surely(self, publications: Iterable[Publication]) -> None:
        """As ``publish_all``, but a message that cannot be routed is published again until it can. Raises BrokerLost only."""
        batch = tuple(publications)
        if len(batch) == 1:
            await self._publish_surely(batch[0])
            return
        # No TaskGroup: it would wrap BrokerLost into a group of exceptions.
        for outcome in await asyncio.gather(*map(self._publish_surely, batch), return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def publish(self, publication: Publication) -> None:
        """Publish one message, by its second key when nothing is bound to the first. Raises Unroutable or BrokerLost."""
        keys = dict.fromkeys(key for key in (publication.key, publication.otherwise) if key is not None)
        async with self._window:
            for key in keys:
                try:
                    await self._publish(publication, key)
                except PublishError:
                    log.warning("no queue is bound to the key", key=key)
                else:
                    return
        if not publication.is_optional:
            raise Unroutable(self._nobody(publication))
        log.warning("copy dropped: nothing is bound to its key", key=publication.key)

    async def _publish_surely(self, publication: Publication) -> None:
        while True:
            try:
                await self.publish(publication)
            except Unroutable as error:
                log.error("message kept, will be published again", reason=str(error))
                await asyncio.sleep(1)
            else:
                return

    async def _publish(self, publication: Publication, key: str) -> None:
        headers = dict(publication.headers)
        if publication.record:
            headers["BCC"] = [self._settings.rabbitmq_record]
        exchange = self._settings.rabbitmq_exchange if publication.exchange is None else publication.exchange
        while True:
            # A fresh message_id each time: aiormq matches returned messages by it (it makes one when there is none).
            properties = commands.Basic.Properties(
                content_type="application/json",
                content_encoding=publication.encoding or None,
                headers=headers or None,
                delivery_mode=2 if self._settings.rabbitmq_persistent else 1,
                priority=publication.priority,
                app_id=APP_ID if publication.is_ours else None,
            )
            self._next = (self._next + 1) % len(self._channels)
            try:
                await self._channels[self._next].basic_publish(
                    publication.body,
                    exchange=exchange,
                    routing_key=key,
                    properties=properties,
                    mandatory=True,
                    wait=False,
                )
            except PublishError:
                raise
            except DeliveryError:
                log.warning("RabbitMQ refused a message (nack), publishing it again", key=key)
                await asyncio.sleep(0.5)
            except (AMQPError, OSError, RuntimeError) as error:
                raise BrokerLost(f"while publishing to {key!r}: {error or type(error).__name__}") from error
            except asyncio.CancelledError:
                # aiormq gives this to whoever waits for a confirm when the heartbeat is lost; nobody has cancelled us then.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                raise BrokerLost(f"while publishing to {key!r}: the connection was closed") from None
            else:
                return

    def _nobody(self, publication: Publication) -> str:
        exchange = self._settings.rabbitmq_exchange if publication.exchange is None else publication.exchange
        return f"no queue is bound to exchange {exchange!r} with the key {publication.key!r}"

    def _close(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
