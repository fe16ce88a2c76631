"""Acks, gathered: never an acked tag named, never an unfinished one acked, every finished one acked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiormq.exceptions import ChannelInvalidStateError
from hypothesis import given
from hypothesis import strategies as st

from shared.amqp.acks import FLUSH_DELAY, Acks
from shared.trouble import BrokerLost
from tests.support.waiting import until


class Channel:
    """A channel as RabbitMQ keeps it: an ack of an unknown or acked tag closes it."""

    def __init__(self, *, slow: bool = False) -> None:
        self.unacked: set[int] = set()
        self.acked: list[int] = []
        self.frames = 0
        self.is_open = True
        self._slow = slow

    def deliver(self, tag: int) -> None:
        self.unacked.add(tag)

    async def basic_ack(self, tag: int, *, multiple: bool, wait: bool) -> None:
        if not self.is_open:
            raise ChannelInvalidStateError("closed")
        if self._slow:
            await asyncio.sleep(0)
        self.frames += 1
        assert tag in self.unacked, f"PRECONDITION_FAILED: unknown delivery tag {tag}"
        acked = {one for one in self.unacked if one <= tag} if multiple else {tag}
        self.unacked -= acked
        self.acked += sorted(acked)


class Scene:
    """Deliveries, finished messages and flushes in any order."""

    def __init__(self) -> None:
        self.channel = Channel()
        self.acks = Acks(self.channel)
        self.delivered = 0
        self.open: list[int] = []
        self.finished: set[int] = set()

    def deliver(self) -> None:
        self.delivered += 1
        self.channel.deliver(self.delivered)
        self.acks.add(self.delivered)
        self.open.append(self.delivered)

    def finish(self, which: int) -> None:
        if self.open:
            tag = self.open.pop(which % len(self.open))
            self.finished.add(tag)
            self.acks._finished.add(tag)  # without the timer: the flushes are the scene's own

    async def flush(self) -> None:
        await self.acks.flush()
        assert set(self.channel.acked) == self.finished
        assert self.channel.unacked == set(self.open)


STEPS = st.lists(st.one_of(st.just("deliver"), st.integers(0, 1000), st.just("flush")), max_size=120)


@given(STEPS)
def test_any_order_of_things(steps: list[Any]) -> None:
    async def play() -> None:
        scene = Scene()
        for step in steps:
            if step == "deliver":
                scene.deliver()
            elif step == "flush":
                await scene.flush()
            else:
                scene.finish(step)
        while scene.open:
            scene.finish(0)
        await scene.flush()
        assert sorted(scene.channel.acked) == list(range(1, scene.delivered + 1))

    asyncio.run(play())


async def test_a_run_of_finished_messages_is_one_frame() -> None:
    scene = Scene()
    for _ in range(1000):
        scene.deliver()
    for _ in range(999):
        scene.finish(0)
    await scene.flush()
    assert scene.channel.frames == 1


async def test_one_slow_message_holds_back_no_ack_behind_it() -> None:
    scene = Scene()
    for _ in range(100):
        scene.deliver()
    for _ in range(99):
        scene.finish(1)
    await scene.flush()
    assert scene.channel.unacked == {1}


async def test_what_is_finished_is_acked_soon_without_being_asked() -> None:
    channel = Channel()
    acks = Acks(channel)
    for tag in (1, 2, 3):
        channel.deliver(tag)
        acks.add(tag)
    for tag in (1, 3):
        acks.finish(tag)
    assert channel.frames == 0
    await until(lambda: channel.acked == [1, 3], within=1, every=FLUSH_DELAY)
    acks.finish(2)
    await until(lambda: channel.acked == [1, 3, 2], within=1, every=FLUSH_DELAY)


async def test_a_flush_does_not_overtake_another() -> None:
    """A later ``multiple`` written between two frames of an earlier flush would make that name an acked tag."""
    channel = Channel(slow=True)
    acks = Acks(channel)
    for tag in range(1, 8):
        channel.deliver(tag)
        acks.add(tag)
    for tag in (1, 3, 5):
        acks.finish(tag)
    first = asyncio.ensure_future(acks.flush())
    await asyncio.sleep(0)
    for tag in (2, 4, 6):
        acks.finish(tag)
    await asyncio.gather(first, acks.flush())
    assert channel.acked == [1, 3, 5, 2, 4, 6]


async def test_stop_acks_what_is_finished() -> None:
    channel = Channel()
    acks = Acks(channel)
    channel.deliver(1)
    acks.add(1)
    acks.finish(1)
    await acks.stop()
    assert channel.acked == [1]


async def test_a_lost_channel() -> None:
    channel = Channel()
    acks = Acks(channel)
    acks.add(1)
    acks.finish(1)
    channel.is_open = False
    with pytest.raises(BrokerLost, match="while acking"):
        await acks.flush()
    await acks.stop()
