"""The batch form of the consumer loop: gather messages, hand them over together, ack them with one frame.

While ours is down the process does not consume: messages stay in the queue, where they are safe and seen.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiormq.abc import DeliveredMessage

from shared.amqp.acks import Acks
from shared.amqp.consumer import Consuming, Frame, open_consumer, parse_frame, render_hold, render_park
from shared.amqp.metrics import DELIVERIES, HELD, PARKED
from shared.amqp.publisher import Publisher
from shared.amqp.settings import BrokerSettings
from shared.log import get_logger
from shared.process import Runtime
from shared.trouble import Unavailable

log = get_logger()

HandleBatch = Callable[[Sequence[Frame]], Awaitable[Mapping[int, str]]]
"""Handles frames together; returns index → reason for those to be parked. Raises Unavailable: nothing was done."""


class Arrivals:
    """Frames that were delivered and not yet taken."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._frames: list[Frame] = []
        self._some = asyncio.Event()
        self._enough = asyncio.Event()

    def put(self, frame: Frame) -> None:
        """A frame was delivered."""
        self._frames.append(frame)
        self._some.set()
        if len(self._frames) >= self._most:
            self._enough.set()

    async def wait(self, within: float) -> None:
        """Until there is one, and then until there are enough, or ``within`` seconds are over."""
        await self._some.wait()
        try:
            async with asyncio.timeout(within):
                await self._enough.wait()
        except TimeoutError:
            return

    def take(self, most: int | None = None) -> list[Frame]:
        """The oldest frames, at most ``most``."""
        count = len(self._frames) if most is None else most
        taken, self._frames = self._frames[:count], self._frames[count:]
        if not self._frames:
            self._some.clear()
        if len(self._frames) < self._most:
            self._enough.clear()
        return taken


class BatchConsumer:
    """One queue, one batch at a time."""

    def __init__(
        self,
        settings: BrokerSettings,
        runtime: Runtime,
        publisher: Publisher,
        handle: HandleBatch,
        *,
        home: str,
        recovered: Callable[[], Awaitable[None]],
        most: int = 1000,
        within: float = 0.2,
    ) -> None:
        """``recovered`` returns when ours is back. A batch: ``most`` messages, or what came ``within`` seconds."""
        self._settings = settings
        self._runtime = runtime
        self._publisher = publisher
        self._handle = handle
        self._home = home
        self._recovered = recovered
        # More than the prefetch never comes: waiting for it would add ``within`` to every batch.
        self._most = min(most, settings.rabbitmq_qos)
        self._within = within

    async def run(self) -> None:
        """Consume until the process is asked to stop, then finish what is in hand. Raises BrokerLost."""
        while await self._is_recovered():
            await self._consume()

    async def _is_recovered(self) -> bool:
        """Wait for ours; False when the process is asked to stop."""
        recovered = asyncio.ensure_future(self._recovered())
        stopping = asyncio.ensure_future(self._runtime.stopping.wait())
        try:
            waits: set[asyncio.Future[Any]] = {recovered, stopping, self._publisher.lost}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if recovered.done():
                recovered.result()
            return not self._runtime.stopping.is_set()
        finally:
            recovered.cancel()
            stopping.cancel()

    async def _consume(self) -> None:
        """One spell of consuming: until the process stops or ours is down."""
        arrivals = Arrivals(self._most)

        def deliver(acks: Acks, message: DeliveredMessage) -> None:
            frame = parse_frame(message)
            DELIVERIES.labels(redelivered=str(frame.redelivered).lower()).inc()
            acks.add(frame.tag)
            arrivals.put(frame)

        consuming = await open_consumer(self._settings, self._runtime, self._publisher, deliver)
        watching = asyncio.ensure_future(consuming.watch_until_stopping())
        self._runtime.ready = True
        try:
            await self._handle_until(watching, consuming, arrivals)
        except Unavailable as error:
            self._runtime.ready = False
            HELD.inc()
            log.warning("not consuming until it is back", queue=self._settings.rabbitmq_queue, reason=str(error))
        finally:
            watching.cancel()
            await asyncio.wait({watching}, timeout=1)
            await consuming.close()

    async def _handle_until(self, watching: "asyncio.Task[None]", consuming: Consuming, arrivals: Arrivals) -> None:
        while not watching.done():
            waiting = asyncio.ensure_future(arrivals.wait(self._within))
            await asyncio.wait({waiting, watching}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if watching.done():
                break
            await self._handle_batch(consuming, arrivals, arrivals.take(self._most))
        watching.result()
        await consuming.cancel()
        while batch := arrivals.take(self._most):
            await self._handle_batch(consuming, arrivals, batch)

    async def _handle_batch(self, consuming: Consuming, arrivals: Arrivals, batch: list[Frame]) -> None:
        if not batch:
            return
        try:
            reasons = await self._handle_patiently(batch)
        except Unavailable:
            # Handed back by ourselves, not by nack: each nack counts towards the delivery limit.
            await consuming.cancel()
            await self._finish(consuming, batch + arrivals.take(), held_for=self._home)
            raise
        for index, reason in reasons.items():
            PARKED.inc()
            log.error("message parked in dead", queue=self._settings.rabbitmq_queue, reason=reason)
            park = render_park(self._settings, batch[index], self._settings.rabbitmq_queue, reason)
            await self._publisher.publish_surely((park,))
        await self._finish(consuming, batch)

    async def _finish(self, consuming: Consuming, frames: list[Frame], *, held_for: str | None = None) -> None:
        if held_for is not None:
            await self._publisher.publish_surely(render_hold(frame, held_for) for frame in frames)
        for frame in frames:
            consuming.acks.finish(frame.tag)
        await consuming.acks.flush()

    async def _handle_patiently(self, batch: list[Frame]) -> dict[int, str]:
        """Handle the batch, again for ``hold-time`` while ours is down. Raises Unavailable after that."""
        unreadable = {
            index: f"its AMQP properties cannot be read: {frame.unreadable}"
            for index, frame in enumerate(batch)
            if frame.unreadable is not None
        }
        fine = [index for index in range(len(batch)) if index not in unreadable]
        give_up = time.monotonic() + self._settings.hold_time.total_seconds()
        while True:
            try:
                reasons = await self._handle([batch[index] for index in fine])
            except Unavailable as error:
                if time.monotonic() >= give_up or self._runtime.stopping.is_set():
                    raise
                log.warning("batch held, nothing counted", reason=str(error))
                await asyncio.sleep(0.5)
            else:
                return unreadable | {fine[index]: reason for index, reason in reasons.items()}
