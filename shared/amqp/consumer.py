"""The loop that all consumers share: a handler asks, the loop acts.

For every message: decode → handle → publish what the handler returned, confirmed and routed → ack. In this order, and nowhere else.
A publish that fails never runs the handler again: the mail may have been sent. Ours is down: the message is kept in hand for a while,
then parked in a wait queue. A body that is no message, or one that keeps coming back: parked in ``dead`` with the reason.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import aiormq
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import AMQPError

from shared.amqp.acks import Acks
from shared.amqp.connection import connect, translating, when_closed
from shared.amqp.metrics import DELIVERIES, HANDLE_SECONDS, HELD, IN_HAND, PARKED
from shared.amqp.publisher import Publisher
from shared.amqp.settings import BrokerSettings
from shared.amqp.tolerance import UNREADABLE
from shared.log import get_logger
from shared.process import Runtime
from shared.tracing import current_hop, open_message
from shared.trouble import BadMessage, BrokerLost, Unavailable
from shared.wire.message import APP_ID
from shared.wire.publication import EVENT, Publication, Step, with_trace
from shared.wire.trace import Trace, read_trace

log = get_logger()

SUSPECT_DELIVERIES = 2
"""From this x-delivery-count on, messages are handled one at a time."""
POISON_DELIVERIES = 5
"""From this x-delivery-count on, a message is parked."""
HOLD = "wait.30s"
"""The wait queue for what is held: the exchange that leads to it."""
SETTLE_TIME = 0.5
"""Seconds between the last ack and the close. RabbitMQ stashes the acks of a quorum queue beyond 32 that are not applied yet, and
forgets them when the channel closes: the messages would be handled twice. Measured on 3.10.8: of 40 acks 7 were lost, of 1,000 68;
after 20 ms none."""
WATCH_INTERVAL = 30.0
"""Seconds between two looks at whether the broker still knows us as a consumer."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as RabbitMQ delivered it."""

    body: bytes
    encoding: str | None
    is_ours: bool
    """The app-id is ours."""
    redelivered: bool
    delivery_count: int
    """How often it was delivered before (x-delivery-count of a quorum queue)."""
    priority: int | None
    event: str | None
    """Our header on messages for the recorder."""
    tag: int
    unreadable: str | None = None
    """Why the message's AMQP properties could not be read; None when they could."""
    trace: Trace | None = None
    """Where it stands in a trace; None: in none."""


def parse_frame(message: DeliveredMessage) -> Frame:
    """The parts of a delivery that we use. Nothing else of a received message is ever published again."""
    properties = message.header.properties
    headers = properties.headers or {}
    is_redelivered = bool(getattr(message.delivery, "redelivered", False))
    # At the first delivery RabbitMQ writes no count: what stands there was copied or forged by the publisher.
    count = headers.get("x-delivery-count", 0) if is_redelivered else 0
    return Frame(
        body=message.body,
        encoding=properties.content_encoding,
        is_ours=properties.app_id == APP_ID,
        redelivered=is_redelivered,
        delivery_count=count if isinstance(count, int) else 0,
        priority=properties.priority,
        event=event if isinstance(event := headers.get(EVENT), str) else None,
        unreadable=reason if isinstance(reason := headers.get(UNREADABLE), str) else None,
        tag=int(getattr(message.delivery, "delivery_tag", 0) or 0),
        trace=read_trace(headers) if headers else None,
    )


def render_park(settings: BrokerSettings, frame: Frame, queue: str, reason: str) -> Publication:
    """The message, unchanged, for the queue ``dead``: with where it was, why, and when."""
    headers = {"origin-queue": queue, "reason": reason[:1024], "time": datetime.now(UTC).isoformat(timespec="seconds")}
    headers |= _render_event(frame)
    body, encoding = frame.body, frame.encoding or ""
    return Publication(settings.rabbitmq_dead, body, headers=headers, encoding=encoding, is_ours=frame.is_ours, trace=frame.trace)


def render_hold(frame: Frame, home: str, hold: str = HOLD) -> Publication:
    """The message, unchanged, for the wait queue ``hold``; after its time it comes back to the queue of the key ``home``."""
    return Publication(
        home,
        frame.body,
        exchange=hold,
        headers=_render_event(frame),
        priority=frame.priority,
        encoding=frame.encoding or "",
        is_ours=frame.is_ours,
        trace=frame.trace,
    )


def render_copy(frame: Frame, key: str) -> Publication:
    """The message, unchanged, for a reader of copies; dropped when nothing is bound to ``key``."""
    return Publication(
        key,
        frame.body,
        headers=_render_event(frame),
        encoding=frame.encoding or "",
        is_optional=True,
        is_ours=frame.is_ours,
        trace=frame.trace,
    )


def _render_event(frame: Frame) -> dict[str, str]:
    """The one header of a message, beside its trace, that survives a park: without it a record does not say what happened."""
    return {} if frame.event is None else {EVENT: frame.event}


class Consumer:
    """One queue, many messages in hand at once (``rabbitmq-qos``)."""

    def __init__(
        self,
        settings: BrokerSettings,
        runtime: Runtime,
        publisher: Publisher,
        handle: Callable[[Frame], Awaitable[Step]],
        *,
        home: str,
        operation: str = "process",
        hold: str = HOLD,
    ) -> None:
        """``handle`` raises BadMessage (parked) or Unavailable (held). ``home``: the routing key that leads to the queue;
        ``operation``: what is done here, as traces tell it; ``hold``: the wait queue for what is held."""
        self._settings = settings
        self._runtime = runtime
        self._publisher = publisher
        self._handle = handle
        self._home = home
        self._operation = operation
        self._hold_in = hold
        self._queue = settings.rabbitmq_queue
        self._tasks: set[asyncio.Task[None]] = set()
        self._suspects = asyncio.Lock()
        self._is_calm = asyncio.Event()
        """The queue has given us a message that did not come back again and again."""
        self._is_drained = False
        self._acks: Acks

    async def run(self) -> None:
        """Consume until the process is asked to stop, then finish what is in hand. Raises BrokerLost."""
        async with AsyncExitStack() as stack:
            # One message at a time at first. What a process had in hand when it died comes back first, and each death counts for all
            # of it: a mail that kills us must be alone, or it takes its neighbours along into the queue dead.
            consuming = await open_consumer(self._settings, self._runtime, self._publisher, self._deliver, prefetch=1)
            stack.push_async_callback(consuming.close)
            widening = asyncio.ensure_future(self._widen(consuming))
            widening.add_done_callback(self._done)
            self._runtime.ready = True
            await consuming.watch_until_stopping()
            if not self._is_calm.is_set():
                widening.cancel()
            await asyncio.wait({widening})
            await consuming.cancel()
            await self._drain()
            self._is_drained = True

    async def _widen(self, consuming: "Consuming") -> None:
        await self._is_calm.wait()
        await consuming.consume(self._settings.rabbitmq_qos)

    def _deliver(self, acks: Acks, message: DeliveredMessage) -> None:
        if self._is_drained:
            # Too late: RabbitMQ hands it to another consumer when the connection closes.
            return
        # A task of our own: closing a channel cancels the library's callbacks, perhaps after the final dot.
        frame = parse_frame(message)
        self._acks = acks
        acks.add(frame.tag)
        if frame.delivery_count < SUSPECT_DELIVERIES:
            self._is_calm.set()
        task = asyncio.get_running_loop().create_task(self._process(frame))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._runtime.fail(error)

    async def _process(self, frame: Frame) -> None:
        DELIVERIES.labels(redelivered=str(frame.redelivered).lower()).inc()
        if frame.unreadable is not None:
            await self._park(frame, f"its AMQP properties cannot be read: {frame.unreadable}")
            return
        if frame.delivery_count < SUSPECT_DELIVERIES:
            await self._process_one(frame)
            return
        async with self._suspects:
            if frame.delivery_count >= POISON_DELIVERIES:
                await self._park(frame, f"delivered {frame.delivery_count} times before without an end")
            else:
                await self._process_one(frame)

    async def _process_one(self, frame: Frame) -> None:
        hop = open_message(self._operation, self._queue, len(frame.body), frame.trace)
        if hop is None:
            await self._work(frame)
            return
        with hop:
            await self._work(frame)

    async def _work(self, frame: Frame) -> None:
        began = time.perf_counter()
        IN_HAND.inc()
        try:
            step = await self._handle(frame)
        except BadMessage as error:
            await self._park(frame, str(error))
            return
        except Unavailable as error:
            await self._hold(frame, error)
            return
        finally:
            IN_HAND.dec()
            HANDLE_SECONDS.observe(time.perf_counter() - began)
        await self._publish(*step.publications)
        if step.confirmed is not None:
            step.confirmed()
        self._acks.finish(frame.tag)

    async def _publish(self, *publications: Publication) -> None:
        hop = current_hop()
        await self._publisher.publish_surely(publications if hop is None else with_trace(publications, hop.trace))

    async def _park(self, frame: Frame, reason: str) -> None:
        PARKED.inc()
        log.error("message parked in dead", queue=self._queue, reason=reason)
        if (hop := current_hop()) is not None:
            hop.fail("parked")
        await self._publish(render_park(self._settings, frame, self._queue, reason))
        self._acks.finish(frame.tag)

    async def _hold(self, frame: Frame, error: Unavailable) -> None:
        HELD.inc()
        log.warning("message held, nothing counted", queue=self._queue, reason=str(error))
        if (hop := current_hop()) is not None:
            hop.fail("held")
        await self._runtime.pause(self._settings.hold_time)
        await self._publish(render_hold(frame, self._home, self._hold_in))
        self._acks.finish(frame.tag)

    async def _drain(self) -> None:
        # What was delivered before the broker confirmed the cancel is still on its way through the library's tasks.
        for _ in range(5):
            await asyncio.sleep(0)
        if self._tasks:
            log.info("finishing what is in hand", messages=len(self._tasks))
            _, unfinished = await asyncio.wait(self._tasks, timeout=self._settings.drain_timeout.total_seconds())
            if unfinished:
                log.warning("stopped with work in hand: RabbitMQ hands it to another consumer", messages=len(unfinished))


@dataclass(slots=True)
class Consuming:
    """An open consumer: its connection, channel and acks."""

    settings: BrokerSettings
    runtime: Runtime
    publisher: Publisher
    connection: aiormq.Connection
    channel: Any
    acks: Acks
    on_message: Callable[[DeliveredMessage], Awaitable[None]]
    lost: "asyncio.Future[str]"
    tags: list[str] = field(default_factory=list)
    """Consumer tags."""

    async def consume(self, prefetch: int) -> None:
        """One more consumer on the channel, with room for ``prefetch`` messages in hand. Raises BrokerLost."""
        queue = self.settings.rabbitmq_queue
        with translating(f"while consuming {queue!r}"):
            await self.channel.basic_qos(prefetch_count=prefetch)
            answer = await self.channel.basic_consume(queue, self.on_message, timeout=10)
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
    deliver: Callable[[Acks, DeliveredMessage], None],
    *,
    prefetch: int | None = None,
) -> Consuming:
    """Connect and consume ``rabbitmq-queue``, ``prefetch`` messages in hand (default: ``rabbitmq-qos``).

    ``deliver`` is called for each message and must not block. Raises BrokerLost.
    """
    connection = await connect(settings.rabbitmq_address, name=f"{runtime.service} consumes", verify=settings.rabbitmq_verify)
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

    async def on_message(message: DeliveredMessage) -> None:
        try:
            deliver(acks, message)
        except Exception as error:  # noqa: BLE001 - the library would only log it, and the message would lie unacked
            runtime.fail(error)

    consuming = Consuming(settings, runtime, publisher, connection, channel, acks, on_message, lost)
    await consuming.consume(settings.rabbitmq_qos if prefetch is None else prefetch)
    return consuming
