"""Acks, gathered: one frame for a contiguous run of finished messages, single ones out of order.

Waiting for a contiguous prefix alone is a trap (one mail on a tarpit would hold back every ack behind it), and an ack ``multiple``
must name a tag that was not acked yet, or RabbitMQ closes the channel.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

from shared.amqp.connection import translating
from shared.trouble import BrokerLost

FLUSH_DELAY = 0.005
"""Seconds in which finished messages are gathered into one ack."""


class Acks:
    """The unacked delivery tags of one channel, in the order of delivery."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._order: deque[int] = deque()
        self._finished: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._flushing: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()

    def add(self, tag: int) -> None:
        """A message was delivered. Tags come in rising order."""
        self._order.append(tag)

    def finish(self, tag: int) -> None:
        """Everything that the message caused is confirmed: ack it soon."""
        self._finished.add(tag)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_DELAY, self._start_flush)

    async def flush(self) -> None:
        """Ack now what is finished. Raises BrokerLost."""
        # One at a time: a later ``multiple`` written first would cover the tags of an earlier flush.
        async with self._writing:
            with translating("while acking"):
                for tag, multiple in self.collect():
                    await self._channel.basic_ack(tag, multiple=multiple, wait=False)

    async def stop(self) -> None:
        """Ack what is finished and stop the timer; also when the channel is gone already."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._flush_quietly()

    def collect(self) -> list[tuple[int, bool]]:
        """Take the finished tags out: (tag, multiple) in an order that never names an acked tag."""
        prefix = 0
        count = 0
        while self._order and self._order[0] in self._finished:
            prefix = self._order.popleft()
            self._finished.discard(prefix)
            count += 1
        acks = [(prefix, count > 1)] if count else []
        if self._finished:
            acks += [(tag, False) for tag in sorted(self._finished)]
            self._order = deque(tag for tag in self._order if tag not in self._finished)
            self._finished.clear()
        return acks

    def _start_flush(self) -> None:
        self._timer = None
        task = asyncio.get_running_loop().create_task(self._flush_quietly())
        self._flushing.add(task)
        task.add_done_callback(self._flushing.discard)

    async def _flush_quietly(self) -> None:
        # A lost channel is noticed where it is watched; RabbitMQ then delivers the unacked messages again.
        with suppress(BrokerLost):
            await self.flush()
