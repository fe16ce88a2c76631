"""The batch form of the loop, with a real RabbitMQ: nothing acked before it is done, nothing lost whatever is down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

from pamqp import commands

from shared.amqp.batches import Arrivals, BatchConsumer
from shared.amqp.frame import Frame
from shared.amqp.settings import BrokerSettings
from shared.trouble import BrokerLost, Unavailable
from tests.integration.amqp.proxy import proxied
from tests.integration.amqp.running import Running, empty, holds, running
from tests.support.queues import Queues
from tests.support.waiting import until

Handle = Callable[[Sequence[Frame]], Awaitable[Mapping[int, str]]]


class Table:
    """What was committed, batch by batch; down when told so."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.is_down = False
        self.tries = 0
        self.back = asyncio.Event()
        self.back.set()

    async def __call__(self, frames: Sequence[Frame]) -> Mapping[int, str]:
        self.tries += 1
        await asyncio.sleep(0)
        if self.is_down:
            raise Unavailable("Postgres is down")
        self.batches.append([frame.body for frame in frames])
        return {index: "not to be recorded" for index, frame in enumerate(frames) if frame.body.startswith(b"bad")}

    @property
    def bodies(self) -> list[bytes]:
        return [body for batch in self.batches for body in batch]


async def publish(queues: Queues, bodies: Sequence[bytes]) -> None:
    async def do(channel: Any) -> None:
        given = {"exchange": "mailwarren", "routing_key": "inbox", "properties": commands.Basic.Properties(delivery_mode=2)}
        await asyncio.gather(*(channel.basic_publish(body, **given) for body in bodies))

    await queues.run_now(do)


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


def recording(
    settings: BrokerSettings, handle: Handle, *, back: asyncio.Event | None = None, most: int = 1000, **changes: Any
) -> AbstractAsyncContextManager[Running]:
    given = settings.model_copy(update={"rabbitmq_qos": 2000} | changes)

    async def recovered() -> None:
        if back is not None:
            await back.wait()

    return running(
        given,
        lambda runtime, publisher: BatchConsumer(
            given, runtime, publisher, handle, home="inbox", recovered=recovered, most=most, within=0.1
        ).run(),
    )


async def test_many_in_few_batches(queues: Queues, settings: BrokerSettings) -> None:
    table = Table()
    await publish(queues, numbers(2500))
    async with recording(settings, table) as one:
        await until(lambda: len(table.bodies) >= 2500, within=10)
        await one.stop()
    assert sorted(table.bodies, key=int) == numbers(2500)
    assert max(map(len, table.batches)) <= 1000
    assert len(table.batches) < 15
    assert await queues.count_now("inbox") == 0


async def test_a_few_do_not_wait_for_more(queues: Queues, settings: BrokerSettings) -> None:
    table = Table()
    async with recording(settings, table):
        await publish(queues, [b"alone"])
        await until(lambda: table.bodies, within=2)
        await until(lambda: empty(queues, "inbox"), within=2)


async def test_bad_ones_are_parked_the_others_are_not(queues: Queues, settings: BrokerSettings) -> None:
    table = Table()
    await publish(queues, [b"1", b"bad 2", b"3", b"bad 4"])
    async with recording(settings, table) as one:
        await until(lambda: holds(queues, "dead", 2), within=5)
        await one.stop()
    parked = await queues.take_now("dead")
    assert sorted(got.body for got in parked) == [b"bad 2", b"bad 4"]
    assert {(got.headers["origin-queue"], got.headers["reason"]) for got in parked} == {("inbox", "not to be recorded")}
    assert await queues.count_now("inbox") == 0


async def test_a_short_trouble_is_waited_out(queues: Queues, settings: BrokerSettings) -> None:
    table = Table()
    table.is_down = True
    await publish(queues, numbers(10))
    async with recording(settings, table, hold_time=timedelta(seconds=30)) as one:
        await until(lambda: table.tries >= 2, within=5)
        assert await queues.count_now("wait.30s") == 0
        table.is_down = False
        await until(lambda: len(table.bodies) == 10, within=5)
        await one.stop()
    assert await queues.count_now("inbox") == 0


async def test_a_long_trouble_stops_consuming(queues: Queues, settings: BrokerSettings) -> None:
    """What was in hand is handed back without a count, what comes stays in the queue; afterwards all is recorded once."""
    table = Table()
    table.is_down = True
    await publish(queues, numbers(50))
    async with recording(settings, table, back=table.back) as one:
        table.back.clear()
        await until(lambda: not one.runtime.ready, within=5)
        await until(lambda: holds(queues, "inbox", 50), within=5)
        await publish(queues, [b"50", b"51"])
        assert await queues.count_now("inbox") == 52
        table.is_down = False
        table.back.set()
        await until(lambda: len(table.bodies) >= 52, within=5)
        await one.stop()
    assert sorted(table.bodies, key=int) == numbers(52)
    assert [await queues.count_now(queue) for queue in ("inbox", "wait.30s", "dead")] == [0, 0, 0]


async def test_stop_while_ours_is_down(queues: Queues, settings: BrokerSettings) -> None:
    table = Table()
    table.is_down = True
    await publish(queues, numbers(20))
    async with recording(settings, table, back=table.back, hold_time=timedelta(seconds=60)) as one:
        table.back.clear()
        await until(lambda: table.tries, within=5)
        await one.stop()
    await until(lambda: holds(queues, "inbox", 20), within=5)
    taken = await queues.take_now("inbox")
    assert sorted((got.body for got in taken), key=int) == numbers(20)
    assert {got.headers.get("x-delivery-count", 0) for got in taken} == {0}


async def test_stop_in_the_middle_of_many(queues: Queues, settings: BrokerSettings) -> None:
    table = Table()
    await publish(queues, numbers(3000))
    async with recording(settings, table, most=50) as one:
        await until(lambda: len(table.batches) > 3, within=10, every=0.001)
        await one.stop()
    left = [got.body for got in await queues.take_now("inbox")]
    assert sorted([*left, *table.bodies], key=int) == numbers(3000)


async def test_a_bug_loses_nothing(queues: Queues, settings: BrokerSettings) -> None:
    async def handle(_: Sequence[Frame]) -> Mapping[int, str]:
        raise ZeroDivisionError("a bug")

    await publish(queues, numbers(10))
    async with recording(settings, handle) as one:
        assert isinstance(await one.end(), ZeroDivisionError)
    await until(lambda: holds(queues, "inbox", 10), within=5)


async def test_the_connection_is_cut_between_commit_and_ack(queues: Queues, settings: BrokerSettings) -> None:
    """Everything comes again: the handler must bear that, and the process ends in order."""
    table = Table()
    async with proxied(settings.rabbitmq_address) as proxy:

        async def handle(frames: Sequence[Frame]) -> Mapping[int, str]:
            told = await table(frames)
            proxy.cut()
            return told

        await publish(queues, numbers(10))
        async with recording(settings, handle, rabbitmq_address=proxy.address) as one:
            assert isinstance(await one.end(), BrokerLost)
    await until(lambda: holds(queues, "inbox", 10), within=5)
    assert len(table.bodies) == 10


async def test_the_queue_is_deleted(queues: Queues, settings: BrokerSettings) -> None:
    async with recording(settings, Table()) as one:
        await queues.run_now(lambda channel: channel.queue_delete("inbox"))
        assert isinstance(await one.end(), BrokerLost)


async def test_arrivals() -> None:
    def frame(number: int) -> Frame:
        return Frame(b"", None, True, False, 0, None, None, number)

    arrivals = Arrivals(3)
    waiting = asyncio.ensure_future(arrivals.wait(10))
    await asyncio.sleep(0)
    arrivals.put(frame(1))
    arrivals.put(frame(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    arrivals.put(frame(3))
    arrivals.put(frame(4))
    await asyncio.wait_for(waiting, 1)
    assert [one.tag for one in arrivals.take(3)] == [1, 2, 3]
    await asyncio.wait_for(arrivals.wait(0.01), 1)
    assert [one.tag for one in arrivals.take()] == [4]
    assert arrivals.take(3) == []
