"""The loop that all consumers share: a handler asks, the loop acts.

For every message: decode → handle → publish what the handler returned, confirmed and routed → ack. In this order, and nowhere else.
A publish that fails never runs the handler again: the mail may have been sent. Ours is down: the message is kept in hand for a while,
then parked in a wait queue. A body that is no message, or one that keeps coming back: parked in ``dead`` with the reason.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from shared.amqp.acks import Acks
from shared.amqp.consuming import Consuming, open_consumer
from shared.amqp.frame import HOLD, Frame, render_hold, render_park
from shared.amqp.metrics import DELIVERIES, HANDLE_SECONDS, HELD, IN_HAND, PARKED
from shared.amqp.publisher import Publisher
from shared.amqp.settings import BrokerSettings
from shared.log import get_logger
from shared.process import Runtime
from shared.tracing import current_hop, open_message
from shared.trouble import BadMessage, Unavailable
from shared.wire.publication import Publication, Step, with_trace

log = get_logger()

SUSPECT_DELIVERIES = 2
"""From this x-delivery-count on, messages are handled one at a time."""
POISON_DELIVERIES = 5
"""From this x-delivery-count on, a message is parked."""
_FIRST, _AGAIN = (DELIVERIES.labels(redelivered=value) for value in ("false", "true"))


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

    async def _widen(self, consuming: "Consuming") -> None:
        await self._is_calm.wait()
        await consuming.consume(self._settings.rabbitmq_qos)

    def _deliver(self, acks: Acks, frame: Frame) -> None:
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
        (_AGAIN if frame.redelivered else _FIRST).inc()
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
        if self._tasks:
            log.info("finishing what is in hand", messages=len(self._tasks))
            _, unfinished = await asyncio.wait(self._tasks, timeout=self._settings.drain_timeout.total_seconds())
            if unfinished:
                log.warning("stopped with work in hand: RabbitMQ hands it to another consumer", messages=len(unfinished))
