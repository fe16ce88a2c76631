"""Putting what is parked in ``dead`` back into the queue where it was.

To that queue alone, by its name: a result goes back to ``records``, never to the outbox. Confirmed first, then taken out of ``dead``:
an end in between leaves the message in both. At most as many as lay there at the start, so that what is parked again is not moved in
circles. No ``x-*`` header is copied: with a copied ``x-death`` the broker takes the next park for a cycle and drops the message.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiormq.abc import DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelNotFoundEntity, PublishError
from pamqp import commands

from shared.amqp.connection import connect
from shared.amqp.settings import BrokerSettings
from shared.trouble import BrokerLost, Unavailable
from shared.wire.publication import EVENT
from shared.wire.trace import read_trace, render_headers

ORIGIN = "origin-queue"
WINDOW = 25
"""Messages taken out and published at once. RabbitMQ sets acks of a quorum queue aside while 32 of a channel's are not applied yet, and
forgets those when the channel closes: what was redriven would then lie in ``dead`` as well (measured on 3.10.8 with windows of 100). Fewer
at once are never set aside, and the next ``get`` is answered only after them."""
PATIENCE = 10.0
"""Seconds to wait for RabbitMQ."""
WAIT_PREFIX = "wait."
"""A wait queue is nobody's origin: what is put into it by its own name never finds the way out."""


@dataclass(frozen=True, slots=True)
class Parked:
    """One message in ``dead``."""

    origin: str | None
    """The queue where it was; None when nobody knows."""
    reason: str
    time: str
    size: int
    """Bytes of the body."""


Progress = Callable[[Parked, str], None]
"""Told of every message, with what became of it: ``redriven``, ``would be redriven``, or ``left: `` and why."""


async def redrive(
    settings: BrokerSettings,
    *,
    limit: int | None = None,
    reason: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> int:
    """Redrive; returns how many messages went back (``dry_run``: would go back).

    Oldest first, as far as RabbitMQ keeps the order: what is looked at and left may come back in another one.
    ``limit``: at most so many. ``reason``: only messages whose reason contains this text. Whatever is left stays in ``dead``.
    Raises Unavailable when there is no queue ``dead`` or RabbitMQ is out of reach.
    """
    try:
        connection = await connect(settings.rabbitmq_address, name="redrive", verify=settings.rabbitmq_verify, patience=PATIENCE)
    except BrokerLost as error:
        raise Unavailable(str(error)) from None
    try:
        # Closing it gives back what was looked at and left, in place.
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        return await _Redrive(settings, channel, limit, reason, dry_run, progress or _silent).run()
    except ChannelNotFoundEntity:
        raise Unavailable(f"RabbitMQ has no queue {settings.rabbitmq_dead!r}") from None
    except (AMQPError, OSError, RuntimeError) as error:
        raise Unavailable(f"RabbitMQ was lost in mid-run: {error or type(error).__name__}") from error
    finally:
        await connection.close()


def parse_parked(message: DeliveredMessage) -> Parked:
    """Where a message in ``dead`` was, and why it is there: told by our processes, else by RabbitMQ's x-death."""
    properties = message.header.properties
    headers: dict[str, Any] = properties.headers or {}
    deaths = headers.get("x-death")
    death = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    origin = headers.get(ORIGIN, death.get("queue"))
    return Parked(
        origin=origin if isinstance(origin, str) and origin else None,
        reason=str(headers.get("reason") or f"RabbitMQ: {death.get('reason', 'unknown')}"),
        time=str(headers.get("time") or death.get("time") or ""),
        size=len(message.body),
    )


class _Redrive:
    def __init__(
        self,
        settings: BrokerSettings,
        channel: Any,
        limit: int | None,
        reason: str | None,
        dry_run: bool,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._channel = channel
        self._limit = limit
        self._reason = reason
        self._dry_run = dry_run
        self._progress = progress

    async def run(self) -> int:
        queue = self._settings.rabbitmq_dead
        left = (await self._channel.queue_declare(queue, passive=True, timeout=PATIENCE)).message_count or 0
        moved = 0
        while left > 0 and (self._limit is None or moved < self._limit):
            chosen: list[tuple[Parked, DeliveredMessage]] = []
            room = WINDOW if self._limit is None else min(WINDOW, self._limit - moved)
            while left > 0 and len(chosen) < room:
                message = await self._channel.basic_get(queue, no_ack=False, timeout=PATIENCE)
                if isinstance(message.delivery, commands.Basic.GetEmpty):
                    left = 0
                    break
                left -= 1
                parked = parse_parked(message)
                if self._is_wanted(parked):
                    chosen.append((parked, message))
            outcomes = await asyncio.gather(*(self._move(parked, message) for parked, message in chosen))
            moved += sum(outcomes)
        return moved

    def _is_wanted(self, parked: Parked) -> bool:
        if self._reason is not None and self._reason not in parked.reason:
            return False
        if parked.origin is None:
            self._progress(parked, "left: nobody knows the queue where it was")
        elif parked.origin == self._settings.rabbitmq_dead or parked.origin.startswith(WAIT_PREFIX):
            self._progress(parked, f"left: {parked.origin!r} is no queue that somebody consumes")
        else:
            return True
        return False

    async def _move(self, parked: Parked, message: DeliveredMessage) -> bool:
        if self._dry_run:
            self._progress(parked, "would be redriven")
            return True
        given = message.header.properties
        headers = given.headers or {}
        properties = commands.Basic.Properties(
            content_type=given.content_type,
            content_encoding=given.content_encoding,
            headers=_keep(headers) or None,
            delivery_mode=2,
            priority=given.priority,
            # Whose message it is decides what is believed of it: kept as it was.
            app_id=given.app_id,
        )
        try:
            await self._channel.basic_publish(
                message.body, exchange="", routing_key=parked.origin, properties=properties, mandatory=True, wait=False
            )
        except PublishError:
            self._progress(parked, f"left: there is no queue {parked.origin!r}")
            return False
        await self._channel.basic_ack(getattr(message.delivery, "delivery_tag", 0), wait=False)
        self._progress(parked, "redriven")
        return True


def _silent(_: Parked, __: str) -> None:
    return


def _keep(headers: Mapping[str, Any]) -> dict[str, Any]:
    """What goes with the message: what a record tells, and the trace. All else would be believed, or end its dead-lettering."""
    event = headers.get(EVENT)
    kept: dict[str, Any] = {EVENT: event} if isinstance(event, str) else {}
    trace = read_trace(headers)
    return kept | render_headers(trace) if trace else kept
