"""Many publishes at once: the same promises as for one, for a fraction of the cost."""

from __future__ import annotations

import asyncio
from typing import Any

from shared.amqp.publisher import Publisher, Refused, Unroutable
from shared.amqp.settings import BrokerSettings
from shared.trouble import BrokerLost
from shared.wire.publication import Publication
from tests.integration.amqp.proxy import proxied
from tests.integration.amqp.test_publisher import bind, publishing
from tests.support.queues import Queues
from tests.support.waiting import until


def count_writes(publisher: Publisher) -> list[int]:
    """Sizes of what is written from now on."""
    sizes: list[int] = []
    waiting: Any = publisher._connection.write_queue
    put = waiting.put

    async def put_and_note(frame: Any) -> None:
        sizes.append(len(frame.payload))
        await put(frame)

    waiting.put = put_and_note
    return sizes


async def test_a_thousand_arrive_as_they_should_in_a_few_writes(queues: Queues, settings: BrokerSettings) -> None:
    batch = [Publication("inbox", b"%d" % number, headers={"event": "accepted"}, encoding="gzip") for number in range(1000)]
    async with publishing(settings) as publisher:
        writes = count_writes(publisher)
        assert await publisher.publish_each(batch, turns=1) == [None] * 1000
        assert len(writes) == 1
        await publisher.publish(Publication("inbox", b"one more"))
    taken: list[Any] = []

    async def take(channel: Any) -> None:
        for _ in range(1001):
            message = await channel.basic_get("inbox", no_ack=True)
            taken.append((message.body, message.header.properties))

    await queues.run_now(take)
    assert sorted(body for body, _ in taken) == sorted([*(one.body for one in batch), b"one more"])
    assert len({properties.message_id for _, properties in taken}) == 1001
    for body, properties in taken:
        if body != b"one more":
            assert (properties.app_id, properties.delivery_mode, properties.content_type) == ("mailwarren", 2, "application/json")
            assert (properties.headers["event"], properties.content_encoding) == ("accepted", "gzip")


async def test_a_thousand_cost_one_round_of_confirms(queues: Queues, settings: BrokerSettings) -> None:
    """While not one confirm has come back, all of them are in the queue."""
    async with proxied(settings.rabbitmq_address) as proxy, publishing(settings, rabbitmq_address=proxy.address) as publisher:
        proxy.pause()
        flying = asyncio.ensure_future(
            publisher.publish_each([Publication("inbox", b"%d" % number) for number in range(1000)], turns=1)
        )

        async def all_there() -> bool:
            return await queues.count_now("inbox") == 1000

        await until(all_there, within=10)
        assert not flying.done()
        proxy.resume()
        assert await asyncio.wait_for(flying, 10) == [None] * 1000


async def test_each_is_told_what_became_of_it(queues: Queues, settings: BrokerSettings) -> None:
    await bind(queues, "small", "small", **{"x-max-length": 3, "x-overflow": "reject-publish"})
    keys = ["inbox", "nowhere", "small", "success"]
    batch = [Publication(keys[number % 4], b"%d" % number) for number in range(80)]
    batch.append(Publication("inbox", b"large" * 50_000))
    async with publishing(settings) as publisher:
        outcomes = await publisher.publish_each(batch, turns=1)
    assert [type(outcome) for outcome in outcomes[1:80:4]] == [Unroutable] * 20
    assert outcomes[0::4] == [None] * 21
    assert outcomes[3::4] == [None] * 20
    small = outcomes[2::4]
    kept = [got.body for got in await queues.take_now("small")]
    # A confirm is for what lies in the queue, and the others know that they were refused.
    assert {type(outcome) for outcome in small} == {type(None), Refused}
    assert sorted(kept) == sorted(one.body for one, outcome in zip(batch[2::4], small, strict=True) if outcome is None)
    assert len(await queues.take_now("inbox")) == 21
    assert len(await queues.take_now("success")) == 20


async def test_the_second_key_counts_here_too(queues: Queues, settings: BrokerSettings) -> None:
    async with publishing(settings) as publisher:
        batch = [Publication("nowhere", b"%d" % number, otherwise="success") for number in range(20)]
        assert await publisher.publish_each(batch, turns=1) == [None] * 20
    assert len(await queues.take_now("success")) == 20


async def test_the_connection_is_cut(queues: Queues, settings: BrokerSettings) -> None:
    async with proxied(settings.rabbitmq_address) as proxy, publishing(settings, rabbitmq_address=proxy.address) as publisher:
        proxy.pause()
        batch = [Publication("inbox", b"%d" % number) for number in range(500)]
        flying = asyncio.ensure_future(publisher.publish_each(batch, turns=1))

        async def some_there() -> bool:
            return await queues.count_now("inbox") > 0

        await until(some_there, within=10)
        proxy.cut()
        outcomes = await asyncio.wait_for(flying, 10)
        assert [type(outcome) for outcome in outcomes] == [BrokerLost] * 500
        again = await asyncio.wait_for(publisher.publish_each(batch, turns=1), 10)
        assert [type(outcome) for outcome in again] == [BrokerLost] * 500


async def test_no_more_in_flight_than_the_throttle_and_nobody_starves(queues: Queues, settings: BrokerSettings) -> None:
    async with (
        proxied(settings.rabbitmq_address) as proxy,
        publishing(settings, rabbitmq_address=proxy.address, rabbitmq_throttle=30) as publisher,
    ):
        proxy.pause()
        batch = [Publication("inbox", b"%d" % number) for number in range(100)]
        flying = [asyncio.ensure_future(publisher.publish_each(batch, turns=1)) for _ in range(3)]

        async def full() -> bool:
            return await queues.count_now("inbox") == 30

        await until(full, within=10)
        single = asyncio.ensure_future(publisher.publish(Publication("inbox", b"single")))
        await asyncio.wait(flying, timeout=0.2)
        assert await full()
        proxy.resume()
        assert await asyncio.wait_for(asyncio.gather(*flying), 20) == [[None] * 100] * 3
        await asyncio.wait_for(single, 10)
    assert len(await queues.take_now("inbox")) == 301
