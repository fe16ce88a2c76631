"""Copies of what a batch consumer has handled, with a real RabbitMQ: after the work, before the ack, and never in its way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from structlog.testing import capture_logs

from shared.amqp.batches import BatchConsumer
from shared.amqp.frame import Frame
from shared.amqp.settings import BrokerSettings
from shared.trouble import BrokerLost
from tests.integration.amqp.proxy import proxied
from tests.integration.amqp.running import Running, empty, holds, running
from tests.integration.amqp.test_batches import Handle, Table, numbers, publish
from tests.support.queues import Queues
from tests.support.waiting import until

KEY = "copies"


def recording(settings: BrokerSettings, handle: Handle) -> AbstractAsyncContextManager[Running]:
    given = settings.model_copy(update={"rabbitmq_qos": 2000})

    async def recovered() -> None:
        return None

    return running(
        given,
        lambda runtime, publisher: BatchConsumer(
            given, runtime, publisher, handle, home="inbox", recovered=recovered, within=0.1, copies_to=KEY
        ).run(),
    )


async def bind(queues: Queues, **arguments: Any) -> None:
    async def do(channel: Any) -> None:
        await channel.queue_declare(KEY, durable=True, arguments={"x-queue-type": "quorum", **arguments})
        await channel.queue_bind(KEY, "mailwarren", routing_key=KEY)

    await queues.run_now(do)


async def test_what_is_handled_is_copied_as_it_was_and_what_is_parked_is_not(queues: Queues, settings: BrokerSettings) -> None:
    await bind(queues)
    for body, app_id in ((b"bad 1", None), (b"2", "mailwarren"), (b"3", None)):
        await queues.publish_now(body, key="inbox", headers={"event": "success", "x-else": 1}, app_id=app_id, encoding="gzip")
    async with recording(settings, Table()) as one:
        await until(lambda: holds(queues, KEY, 2), within=5)
        await one.stop()
    taken = await queues.take_now(KEY)
    assert [(got.body, got.app_id, got.encoding) for got in taken] == [(b"2", "mailwarren", "gzip"), (b"3", None, "gzip")]
    assert [got.headers.get("event") for got in taken] == ["success"] * 2
    assert not any("x-else" in got.headers for got in taken)
    assert [got.body for got in await queues.take_now("dead")] == [b"bad 1"]
    assert await queues.count_now("inbox") == 0


async def test_no_copy_before_the_work_is_done(queues: Queues, settings: BrokerSettings) -> None:
    await bind(queues)
    table, done = Table(), asyncio.Event()

    async def handle(frames: Sequence[Frame]) -> Mapping[int, str]:
        told = await table(frames)
        await done.wait()
        return told

    await publish(queues, numbers(3))
    async with recording(settings, handle):
        await until(lambda: table.bodies, within=5)
        assert await queues.count_now(KEY) == 0
        done.set()
        await until(lambda: holds(queues, KEY, 3), within=5)


async def test_nothing_is_bound_and_the_work_goes_on_with_one_line_about_it(queues: Queues, settings: BrokerSettings) -> None:
    table = Table()
    await publish(queues, numbers(1200))
    with capture_logs() as lines:
        async with recording(settings, table) as one:
            await until(lambda: len(table.bodies) == 1200, within=10)
            await until(lambda: empty(queues, "inbox"), within=5)
            await one.stop()
    assert len(table.bodies) == 1200
    assert [line["event"] for line in lines if line["log_level"] != "info"] == ["copies dropped: nothing is bound to their key"]


async def test_a_full_queue_of_copies_loses_the_oldest_and_stops_nothing(queues: Queues, settings: BrokerSettings) -> None:
    await bind(queues, **{"x-max-length": 5, "x-overflow": "drop-head"})
    table = Table()
    await publish(queues, numbers(100))
    async with recording(settings, table) as one:
        await until(lambda: len(table.bodies) == 100, within=10)
        await until(lambda: empty(queues, "inbox"), within=5)
        await one.stop()
    assert await queues.count_now(KEY) == 5


async def test_the_connection_is_cut_before_the_copies_are_confirmed(queues: Queues, settings: BrokerSettings) -> None:
    """Everything comes again, and is copied then."""
    await bind(queues)
    table = Table()
    async with proxied(settings.rabbitmq_address) as proxy:

        async def handle(frames: Sequence[Frame]) -> Mapping[int, str]:
            told = await table(frames)
            proxy.cut()
            return told

        await publish(queues, numbers(10))
        async with recording(settings.model_copy(update={"rabbitmq_address": proxy.address}), handle) as one:
            assert isinstance(await one.end(), BrokerLost)
    await until(lambda: holds(queues, "inbox", 10), within=5)
    async with recording(settings, table) as one:
        await until(lambda: empty(queues, "inbox"), within=5)
        await one.stop()
    assert {got.body for got in await queues.take_now(KEY)} == set(numbers(10))
