"""What is told of publishes: how many, how many wait, how long RabbitMQ took."""

from __future__ import annotations

import asyncio

from prometheus_client import REGISTRY

from shared.amqp.settings import BrokerSettings
from shared.wire.publication import Publication
from tests.integration.amqp.proxy import proxied
from tests.integration.amqp.test_publisher import publishing
from tests.support.queues import Queues
from tests.support.waiting import until


def read(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0


async def test_a_broker_that_confirms_nothing_is_seen(queues: Queues, settings: BrokerSettings) -> None:
    async with (
        proxied(settings.rabbitmq_address) as proxy,
        publishing(settings, rabbitmq_address=proxy.address) as publisher,
        publishing(settings) as another,
    ):
        proxy.pause()
        before = read("amqp_confirm_seconds_count")

        async def is_counted() -> bool:
            return read("amqp_confirm_seconds_count") == before + 1

        # A process may have more than one publisher.
        await another.publish(Publication("success", b"x"))
        await until(is_counted, within=10)
        published = read("amqp_publishes_total")
        batch = [Publication("inbox", b"%d" % number) for number in range(100)]
        flying = asyncio.ensure_future(publisher.publish_each(batch, turns=1))

        async def all_there() -> bool:
            return await queues.count_now("inbox") == 100

        await until(all_there, within=10)
        assert read("amqp_publishes_in_flight") == 100
        assert read("amqp_publishes_total") - published == 100
        assert read("amqp_confirm_seconds_count") == before + 1
        proxy.resume()
        assert await asyncio.wait_for(flying, 10) == [None] * 100
        assert read("amqp_publishes_in_flight") == 0
        await until(lambda: has_more(before + 1), within=10)


async def test_what_is_lost_with_its_connection_is_not_confirmed(queues: Queues, settings: BrokerSettings) -> None:
    writes = read("amqp_confirm_seconds_count")
    async with proxied(settings.rabbitmq_address) as proxy, publishing(settings, rabbitmq_address=proxy.address) as publisher:
        proxy.pause()
        flying = asyncio.ensure_future(publisher.publish_each([Publication("inbox", b"x")], turns=1))
        await until(lambda: _is_one_there(queues), within=10)
        proxy.cut()
        assert await asyncio.wait_for(flying, 10) != [None]
    assert read("amqp_publishes_in_flight") == 0
    assert read("amqp_confirm_seconds_count") == writes


async def has_more(writes: float) -> bool:
    return read("amqp_confirm_seconds_count") > writes


async def _is_one_there(queues: Queues) -> bool:
    return await queues.count_now("inbox") == 1
