"""The batch form of the consumer loop: gather messages, hand them over together, ack them with one frame.

While some batches are stored the next one is prepared. Each is acked when it is stored, whichever ends first. While ours is down the
process does not consume: messages stay in the queue, where they are safe and seen.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from shared.amqp.acks import Acks
from shared.amqp.consuming import Consuming, open_consumer
from shared.amqp.frame import HOLD, Frame, render_copy, render_hold, render_park
from shared.amqp.metrics import DELIVERIES, HELD, PARKED
from shared.amqp.publisher import Publisher
from shared.amqp.settings import BrokerSettings
from shared.log import get_logger
from shared.process import Runtime
from shared.trouble import Unavailable

log = get_logger()

HandleBatch = Callable[[Sequence[Frame]], Awaitable[Mapping[int, str]]]
"""Handles frames together; returns index → reason for those to be parked. Raises Unavailable: nothing was done."""
PrepareBatch = Callable[[Sequence[Frame]], Awaitable[None]]
"""Does what touches nothing, for the frames that ``HandleBatch`` gets next (the same object). Runs while the batch before is handled,
so it must let others have their turn."""

MOST_OCTETS = 2 * 1024 * 1024
"""In one batch, about: what is in hand must fit into memory."""
_PAUSE = timedelta(seconds=0.5)
_FIRST, _AGAIN = (DELIVERIES.labels(redelivered=value) for value in ("false", "true"))


class Arrivals:
    """Frames that were delivered and not yet taken."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._frames: deque[Frame] = deque()
        self._octets = 0
        self._some = asyncio.Event()
        self._enough = asyncio.Event()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._frames)

    def put(self, frame: Frame) -> None:
        """A frame was delivered."""
        self._frames.append(frame)
        self._octets += _weigh(frame)
        self._some.set()
        if self._is_enough():
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
        """The oldest frames: a batch of at most ``most``. None: every frame."""
        taken: list[Frame] = []
        octets = 0
        while self._frames and (most is None or (len(taken) < most and octets < MOST_OCTETS)):
            taken.append(self._frames.popleft())
            octets += _weigh(taken[-1])
        self._octets -= octets
        if not self._frames:
            self._some.clear()
        if not self._is_enough():
            self._enough.clear()
        return taken

    def _is_enough(self) -> bool:
        return len(self._frames) >= self._most or self._octets >= MOST_OCTETS


def _weigh(frame: Frame) -> int:
    """Octets, about, once it is unpacked."""
    return len(frame.body) * (10 if frame.encoding else 1)


class _Batch:
    """Frames that are in hand together."""

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = frames
        self.reasons = {
            index: f"its AMQP properties cannot be read: {frame.unreadable}"
            for index, frame in enumerate(frames)
            if frame.unreadable is not None
        }
        """Index → why it is parked."""
        self.places = [index for index in range(len(frames)) if index not in self.reasons]
        self.fine = [frames[index] for index in self.places]
        """What is handed over; ``places``: where they stand in ``frames``."""


class BatchConsumer:
    """One queue; ``abreast`` batches are stored, one is prepared, one arrives."""

    def __init__(
        self,
        settings: BrokerSettings,
        runtime: Runtime,
        publisher: Publisher,
        handle: HandleBatch,
        *,
        home: str,
        recovered: Callable[[], Awaitable[None]],
        prepare: PrepareBatch | None = None,
        most: int = 1000,
        within: float = 0.2,
        abreast: int = 1,
        copies_to: str = "",
        hold: str = HOLD,
    ) -> None:
        """``recovered`` returns when ours is back. A batch: ``most`` messages, or what came ``within`` seconds. ``abreast``: batches that
        ``handle`` gets at once; of two with news of one mail the later may end first. ``copies_to``: the key that a copy of all that was
        handled, and not parked, is published to; empty = none. ``hold``: the wait queue for what is handed back."""
        self._settings = settings
        self._runtime = runtime
        self._publisher = publisher
        self._handle = handle
        self._prepare = prepare
        self._home = home
        self._recovered = recovered
        # More than the prefetch never comes: waiting for it would add ``within`` to every batch.
        self._most = min(most, settings.rabbitmq_qos)
        self._within = within
        self._abreast = abreast
        self._copies_to = copies_to
        self._hold = hold
        self._handling: set[asyncio.Task[None]] = set()
        self._in_hand: deque[_Batch] = deque()
        """Not acked yet, the oldest first."""

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

        def deliver(acks: Acks, frame: Frame) -> None:
            (_AGAIN if frame.redelivered else _FIRST).inc()
            acks.add(frame.tag)
            arrivals.put(frame)

        self._in_hand.clear()
        consuming = await open_consumer(self._settings, self._runtime, self._publisher, deliver)
        watching = asyncio.ensure_future(consuming.watch_until_stopping())
        self._runtime.ready = True
        try:
            await self._handle_until(watching, consuming, arrivals)
        except Unavailable as error:
            self._runtime.ready = False
            HELD.inc()
            log.warning("not consuming until it is back", queue=self._settings.rabbitmq_queue, reason=str(error))
            await self._hand_back(consuming, arrivals)
        finally:
            watching.cancel()
            await asyncio.wait({watching}, timeout=1)
            await consuming.close()

    async def _handle_until(self, watching: "asyncio.Task[None]", consuming: Consuming, arrivals: Arrivals) -> None:
        waiting = asyncio.ensure_future(arrivals.wait(self._within))
        try:
            while not watching.done():
                # What fails while nothing arrives must not wait for something to arrive.
                await asyncio.wait({waiting, watching, *self._handling}, return_when=asyncio.FIRST_COMPLETED)
                self._collect()
                if waiting.done() and not watching.done():
                    await self._take_next(consuming, arrivals)
                    waiting = asyncio.ensure_future(arrivals.wait(self._within))
            watching.result()
            await consuming.cancel()
            while arrivals.count:
                await self._take_next(consuming, arrivals)
            await self._leave(0)
        finally:
            waiting.cancel()
            for task in self._handling:
                task.cancel()
            if self._handling:
                await asyncio.wait(self._handling)
            self._handling.clear()

    async def _take_next(self, consuming: Consuming, arrivals: Arrivals) -> None:
        """Take a batch, prepare it, and begin to handle it when there is a place. Raises what the handling of any batch does."""
        batch = _Batch(arrivals.take(self._most))
        self._in_hand.append(batch)
        if self._prepare is not None:
            await self._prepare(batch.fine)
        await self._leave(self._abreast - 1)
        self._handling.add(asyncio.ensure_future(self._handle_batch(consuming, batch)))

    async def _leave(self, most: int) -> None:
        """Return when at most so many batches are being handled. Raises what their handling does."""
        while len(self._handling) > most:
            await asyncio.wait(self._handling, return_when=asyncio.FIRST_COMPLETED)
            self._collect()

    def _collect(self) -> None:
        for task in [task for task in self._handling if task.done()]:
            self._handling.discard(task)
            task.result()

    async def _handle_batch(self, consuming: Consuming, batch: _Batch) -> None:
        reasons = batch.reasons | await self._handle_patiently(batch)
        for index, reason in reasons.items():
            PARKED.inc()
            log.error("message parked in dead", queue=self._settings.rabbitmq_queue, reason=reason)
            park = render_park(self._settings, batch.frames[index], self._settings.rabbitmq_queue, reason)
            await self._publisher.publish_surely((park,))
        if self._copies_to:
            # Who dies before the ack gets the same messages again, and makes the same copies again: doubled, and none is missing.
            done = [frame for index, frame in enumerate(batch.frames) if index not in reasons]
            await self._publisher.publish_surely(render_copy(frame, self._copies_to) for frame in done)
        await _finish(consuming, batch.frames)
        self._in_hand.remove(batch)

    async def _handle_patiently(self, batch: _Batch) -> dict[int, str]:
        """Handle the batch, again for ``hold-time`` while ours is down. Raises Unavailable after that."""
        give_up = time.monotonic() + self._settings.hold_time.total_seconds()
        while True:
            try:
                reasons = await self._handle(batch.fine)
            except Unavailable as error:
                if time.monotonic() >= give_up or self._runtime.stopping.is_set():
                    raise
                log.warning("batch held, nothing counted", reason=str(error))
                await self._runtime.pause(_PAUSE)
            else:
                return {batch.places[index]: reason for index, reason in reasons.items()}

    async def _hand_back(self, consuming: Consuming, arrivals: Arrivals) -> None:
        """By ourselves, not by nack: each nack counts towards the delivery limit."""
        await consuming.cancel()
        frames = [frame for batch in self._in_hand for frame in batch.frames] + arrivals.take()
        await self._publisher.publish_surely(render_hold(frame, self._home, self._hold) for frame in frames)
        await _finish(consuming, frames)
        self._in_hand.clear()


async def _finish(consuming: Consuming, frames: Sequence[Frame]) -> None:
    for frame in frames:
        consuming.acks.finish(frame.tag)
    await consuming.acks.flush()
