"""Acks, gathered: one frame for a contiguous run of finished messages, single ones out of order.

Waiting for a contiguous prefix alone is a trap (one mail on a tarpit would hold back every ack behind it), and an ack ``multiple``
must name a tag that was not acked yet, or RabbitMQ closes the channel.
"""

import asyncio
from collections import deque
from typing import Any

from aiormq.exceptions import AMQPError

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

    def add(self, tag: int) -> None:
        """A message was delivered. Tags come in rising order."""
        self._order.append(tag)

    def finish(self, tag: int) -> None:
        """Everything that the message caused is confirmed: ack it soon."""
        self._finished.add(tag)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_DELAY, self._start_flush)

    async def flush(self) -> None:
        """Ack now what is finished."""
        acks = self.collect()
        for tag, multiple in acks:
            await self._channel.basic_ack(tag, multiple=multiple, wait=False)

    async def stop(self) -> None:
        """Stop the timer and wait for acks being written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flushing:
            await asyncio.wait(self._flushing, timeout=1)

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
        try:
            await self.flush()
        except (AMQPError, OSError):
            return
