"""Publishing: persistent, mandatory, confirmed. ``publish_all`` returns when the broker has taken responsibility for every message.

No confirm, or a message that came back: the outcome is unknown, and the same is published again. It may then be there twice, never
not at all.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiormq
from aiormq.exceptions import AMQPError, DeliveryError, PublishError
from pamqp import commands

from shared.amqp import bulk
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


class Refused(Unavailable):
    """RabbitMQ did not take the message (nack): a queue is full, or in trouble."""


class Publisher:
    """One connection that only publishes (an alarm of the broker blocks publishing connections)."""

    def __init__(self, settings: BrokerSettings, connection: aiormq.Connection, channels: list[Any]) -> None:
        self._settings = settings
        self._connection = connection
        self._channels = channels
        self._next = 0
        self._window = asyncio.Semaphore(settings.rabbitmq_throttle)
        self._filling = asyncio.Lock()
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

    async def publish_each(self, publications: Iterable[Publication], *, turns: int) -> list[Unavailable | BrokerLost | None]:
        """What became of each: None is confirmed and routed; with all else nobody knows. ``turns``: see ``publish``."""
        batch = tuple(publications)
        if len(batch) == 1:
            try:
                await self.publish(batch[0], turns=turns)
            except (Unavailable, BrokerLost) as error:
                return [error]
            return [None]
        if len(batch) >= bulk.FEW:
            return await self._publish_many(batch, turns)
        return await self._publish_apart(batch, turns)

    async def _publish_apart(self, batch: Sequence[Publication], turns: int) -> list[Unavailable | BrokerLost | None]:
        outcomes = await asyncio.gather(*(self.publish(one, turns=turns) for one in batch), return_exceptions=True)
        told: list[Unavailable | BrokerLost | None] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Unavailable | BrokerLost):
                raise outcome
            told.append(outcome)
        return told

    async def _publish_many(self, batch: Sequence[Publication], turns: int) -> list[Unavailable | BrokerLost | None]:
        """In as few writes as possible; what the broker does not take then is published once more, one by one."""
        alike: dict[Any, list[int]] = {}
        rest: list[int] = []
        for index, one in enumerate(batch):
            if bulk.fits(self._channels[0], one.body):
                traits = (one.key, one.exchange, str(one.headers), one.record, one.priority, one.encoding, one.is_ours)
                alike.setdefault(traits, []).append(index)
            else:
                rest.append(index)
        pieces = [
            [indices[place] for place in piece]
            for indices in alike.values()
            for piece in bulk.cut([len(batch[index].body) for index in indices], self._settings.rabbitmq_throttle)
        ]
        told: dict[int, Unavailable | BrokerLost | None] = {}
        for piece, outcomes in zip(pieces, await asyncio.gather(*(self._send(batch, one) for one in pieces)), strict=True):
            for index, outcome in zip(piece, outcomes, strict=True):
                if isinstance(outcome, DeliveryError):
                    rest.append(index)
                else:
                    told[index] = outcome
        for index, again in zip(rest, await self._publish_apart([batch[index] for index in rest], turns), strict=True):
            told[index] = again
        return [told[index] for index in range(len(batch))]

    async def _send(self, batch: Sequence[Publication], indices: Sequence[int]) -> list[DeliveryError | BrokerLost | None]:
        """Publish these of the batch, which are alike. A DeliveryError: the broker did not take it, or nothing is bound to its key."""
        first = batch[indices[0]]
        exchange = self._settings.rabbitmq_exchange if first.exchange is None else first.exchange
        self._next = (self._next + 1) % len(self._channels)
        async with self._hold(len(indices)):
            try:
                confirms = await bulk.send(
                    self._channels[self._next], exchange, first.key, self._describe(first), [batch[i].body for i in indices]
                )
            except (AMQPError, OSError, RuntimeError) as error:
                return [BrokerLost(f"while publishing to {first.key!r}: {error or type(error).__name__}")] * len(indices)
            outcomes = await asyncio.gather(*confirms, return_exceptions=True)
        told: list[DeliveryError | BrokerLost | None] = []
        for outcome in outcomes:
            if isinstance(outcome, DeliveryError):
                told.append(outcome)
            elif isinstance(outcome, AMQPError | OSError | RuntimeError | asyncio.CancelledError):
                # aiormq cancels whoever waits for a confirm when the heartbeat is lost.
                told.append(BrokerLost(f"while publishing to {first.key!r}: {outcome or type(outcome).__name__}"))
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                told.append(None)
        return told

    @asynccontextmanager
    async def _hold(self, count: int) -> AsyncIterator[None]:
        """So many places in the window at once."""
        held = 0
        try:
            # One at a time: two that each hold a part would wait for each other.
            async with self._filling:
                for _ in range(count):
                    await self._window.acquire()
                    held += 1
            yield
        finally:
            for _ in range(held):
                self._window.release()

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

    async def publish(self, publication: Publication, *, turns: int | None = None) -> None:
        """Publish one message, by its second key when nothing is bound to the first.

        ``turns``: how often, half a second apart, when RabbitMQ refuses it; None: until it is taken. Raises Unroutable, Refused or
        BrokerLost.
        """
        keys = dict.fromkeys(key for key in (publication.key, publication.otherwise) if key is not None)
        async with self._window:
            for key in keys:
                try:
                    await self._publish(publication, key, turns)
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

    async def _publish(self, publication: Publication, key: str, turns: int | None) -> None:
        exchange = self._settings.rabbitmq_exchange if publication.exchange is None else publication.exchange
        for turn in itertools.count(1):
            # A fresh message_id each time: aiormq matches returned messages by it (it makes one when there is none).
            properties = self._describe(publication)
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
                if turn == turns:
                    raise Refused(f"RabbitMQ refuses messages with the key {key!r} (nack)") from None
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

    def _describe(self, publication: Publication) -> commands.Basic.Properties:
        headers = dict(publication.headers)
        if publication.record:
            headers["BCC"] = [self._settings.rabbitmq_record]
        return commands.Basic.Properties(
            content_type="application/json",
            content_encoding=publication.encoding or None,
            headers=headers or None,
            delivery_mode=2 if self._settings.rabbitmq_persistent else 1,
            priority=publication.priority,
            app_id=APP_ID if publication.is_ours else None,
        )

    def _nobody(self, publication: Publication) -> str:
        exchange = self._settings.rabbitmq_exchange if publication.exchange is None else publication.exchange
        return f"no queue is bound to exchange {exchange!r} with the key {publication.key!r}"

    def _close(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
