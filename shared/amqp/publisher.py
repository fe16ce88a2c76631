"""Publishing: persistent, mandatory, confirmed. ``publish_all`` returns when the broker has taken responsibility for every message.

No confirm, or a message that came back: the outcome is unknown, and the same is published again. It may then be there twice, never
not at all.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Hashable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import aiormq
from aiormq.exceptions import DeliveryError, PublishError
from pamqp import commands

from shared.amqp.connection import connect, translating, when_closed
from shared.amqp.outgoing import NO_TRACE, Confirm, Outgoing
from shared.amqp.settings import BrokerSettings
from shared.log import get_logger
from shared.trouble import BrokerLost, Unavailable
from shared.wire.message import APP_ID
from shared.wire.publication import Publication
from shared.wire.trace import Trace, render_headers

log = get_logger()

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
DROPS_TOLD = 60.0
"""Seconds between two lines about copies that were dropped, for each key: there may be thousands a second."""
_MOST_KEYS = 256


class Unroutable(Unavailable):
    """No queue is bound to the key."""


class Refused(Unavailable):
    """RabbitMQ did not take the message (nack): a queue is full, or in trouble."""


Trouble = Unavailable | BrokerLost


class Publisher:
    """One connection that only publishes (an alarm of the broker blocks publishing connections)."""

    def __init__(self, settings: BrokerSettings, connection: aiormq.Connection, channel: Any) -> None:
        self._settings = settings
        self._connection = connection
        self._most = settings.rabbitmq_throttle
        self._window = asyncio.Semaphore(settings.rabbitmq_throttle)
        self._filling = asyncio.Lock()
        self._drops = _Drops()
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done, with the reason, when the connection or a channel is gone."""
        self._outgoing = Outgoing(channel, self._close)
        for owner in (connection, channel):
            when_closed(owner, self._close)

    @classmethod
    async def open(cls, settings: BrokerSettings, *, name: str, patience: float | None = None) -> "Publisher":
        """Connect (waiting for the broker, see ``connection.connect``) and open a channel."""
        connection = await connect(
            settings.rabbitmq_address, name=f"{name} publishes", verify=settings.rabbitmq_verify, patience=patience
        )
        with translating("while opening a channel"):
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        return cls(settings, connection, channel)

    async def close(self) -> None:
        """Close the connection. Publishes in flight are lost: wait for them first."""
        await self._connection.close()

    async def publish_all(self, publications: Iterable[Publication]) -> None:
        """Publish and wait for every confirm. Raises Unroutable or BrokerLost; then some may have been published."""
        for outcome in await self.publish_each(publications, turns=None):
            if outcome is not None:
                raise outcome

    async def publish_each(self, publications: Iterable[Publication], *, turns: int | None) -> list[Trouble | None]:
        """What became of each: None is confirmed and routed; with all else nobody knows. ``turns``: see ``publish``."""
        batch = tuple(publications)
        if len(batch) == 1:
            return [await self._try(batch[0], turns)]
        told: list[Trouble | None] = []
        for start in range(0, len(batch), self._most):
            told += await self._publish_together(batch[start : start + self._most], turns)
        return told

    async def _publish_together(self, batch: Sequence[Publication], turns: int | None) -> list[Trouble | None]:
        """All at once; what the broker does not take then is published once more, one by one."""
        async with self._hold(len(batch)):
            # return_exceptions: whatever one of them ends with, the others are waited for.
            ended = await asyncio.gather(*(self._send(one, one.key) for one in batch), return_exceptions=True)
        again = [one for one, outcome in zip(batch, ended, strict=True) if isinstance(outcome, DeliveryError)]
        later = iter(await asyncio.gather(*(self._try(one, turns) for one in again)))
        return [
            next(later) if isinstance(outcome, DeliveryError) else _tell(outcome, one)
            for one, outcome in zip(batch, ended, strict=True)
        ]

    async def _try(self, publication: Publication, turns: int | None) -> Trouble | None:
        try:
            await self.publish(publication, turns=turns)
        except (Unavailable, BrokerLost) as error:
            return error
        except Exception as error:  # noqa: BLE001 - logged there; the others' outcome must not get lost
            return _explain(error, publication)
        return None

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
        left = tuple(publications)
        while left:
            outcomes = await self.publish_each(left, turns=None)
            lost = next((outcome for outcome in outcomes if isinstance(outcome, BrokerLost)), None)
            if lost is not None:
                raise lost
            left = tuple(one for one, outcome in zip(left, outcomes, strict=True) if outcome is not None)
            if left:
                log.error("message kept, will be published again", reason=str(next(filter(None, outcomes))))
                await asyncio.sleep(1)

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
                    if not publication.is_optional:
                        log.warning("no queue is bound to the key", key=key)
                else:
                    return
        if not publication.is_optional:
            raise Unroutable(self._nobody(publication))
        self._drops.count(publication.key)

    async def _publish(self, publication: Publication, key: str, turns: int | None) -> None:
        for turn in itertools.count(1):
            try:
                await self._send(publication, key)
            except PublishError:
                raise
            except DeliveryError:
                if turn == turns:
                    raise Refused(f"RabbitMQ refuses messages with the key {key!r} (nack)") from None
                log.warning("RabbitMQ refused a message (nack), publishing it again", key=key)
                await asyncio.sleep(0.5)
            else:
                return

    def _send(self, publication: Publication, key: str) -> Confirm:
        exchange = self._settings.rabbitmq_exchange if publication.exchange is None else publication.exchange
        headers = str(publication.headers) if publication.headers else ""
        traits = (publication.record, publication.priority, publication.encoding, publication.is_ours, headers)
        if publication.trace is not None:
            return self._send_traced(publication, publication.trace, exchange, key, traits)
        return self._outgoing.publish(exchange, key, traits, lambda: self._describe(publication), publication.body)

    def _send_traced(self, publication: Publication, trace: Trace, exchange: str, key: str, traits: Hashable) -> Confirm:
        # A template without the trace itself serves all; what others note in their tracestate is theirs, and may differ each time.
        kept = None if trace.tracestate else (traits, "traced")
        headers = render_headers(replace(trace, traceparent=NO_TRACE))
        return self._outgoing.publish(
            exchange, key, kept, lambda: self._describe(publication, headers), publication.body, trace.traceparent
        )

    def _describe(self, publication: Publication, trace: Mapping[str, str] = _NO_HEADERS) -> commands.Basic.Properties:
        headers = {**trace, **publication.headers}
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
        self._outgoing.close(reason)
        if not self.lost.done():
            self.lost.set_result(reason)


class _Drops:
    """Copies that nobody was there for."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[float, int]] = {}
        """Key → when it was told last, and how many there were since."""

    def count(self, key: str) -> None:
        """One was dropped: told at once when it is the first for a while."""
        now = time.monotonic()
        told, untold = self._keys.get(key, (-DROPS_TOLD, 0))
        if now - told < DROPS_TOLD:
            self._keys[key] = told, untold + 1
            return
        if len(self._keys) >= _MOST_KEYS:
            # A message may name the key for its result: there are as many as somebody likes.
            self._keys.clear()
        self._keys[key] = now, 0
        log.warning("copies dropped: nothing is bound to their key", key=key, copies=untold + 1)


def _tell(outcome: Any, publication: Publication) -> Trouble | None:
    if outcome is None or isinstance(outcome, Unavailable | BrokerLost):
        return outcome
    if isinstance(outcome, Exception):
        return _explain(outcome, publication)
    if isinstance(outcome, BaseException):
        raise outcome
    return None


def _explain(error: Exception, publication: Publication) -> Unavailable:
    """A bug that meets one message must not hide what became of the others."""
    log.error("a message cannot be published", key=publication.key, exc_info=error)
    return Unavailable(f"it cannot be published with the key {publication.key!r}: {type(error).__name__}")
