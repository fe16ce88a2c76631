"""Publishing to a real RabbitMQ: confirmed and routed, or it is said that it was not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiormq.exceptions import AMQPError

from shared.amqp.publisher import Publisher, Unroutable
from shared.amqp.settings import BrokerSettings
from shared.trouble import BadSetting, BrokerLost, Unavailable
from shared.wire.publication import Publication
from tests.integration.amqp.proxy import proxied
from tests.support.queues import Queues
from tests.support.waiting import free_ports, until
from tests.unit.shared.delivery.messages import accepted, deferred, make_message


@asynccontextmanager
async def publishing(settings: BrokerSettings, **changes: Any) -> AsyncIterator[Publisher]:
    publisher = await Publisher.open(settings.model_copy(update=changes), name="test", patience=5)
    try:
        yield publisher
    finally:
        await publisher.close()


async def bind(queues: Queues, queue: str, key: str, **arguments: Any) -> None:
    async def do(channel: Any) -> None:
        await channel.queue_declare(queue, durable=True, arguments=arguments)
        await channel.queue_bind(queue, "mailwarren", routing_key=key)

    await queues.run_now(do)


async def unbind(queues: Queues, queue: str, key: str) -> None:
    async def do(channel: Any) -> None:
        await channel.queue_unbind(queue, "mailwarren", routing_key=key)

    await queues.run_now(do)


async def test_what_is_published_arrives_as_it_should(queues: Queues, settings: BrokerSettings) -> None:
    async with publishing(settings) as publisher:
        await publisher.publish(Publication("inbox", b"one", headers={"event": "retry"}, priority=7, encoding="gzip"))
        await publisher.publish(Publication("inbox", b"two", is_ours=False))
    taken: list[Any] = []

    async def take(channel: Any) -> None:
        for _ in range(2):
            message = await channel.basic_get("inbox", no_ack=True)
            taken.append((message.body, message.header.properties))

    await queues.run_now(take)
    (_, first), (_, second) = taken
    assert [body for body, _ in taken] == [b"one", b"two"]
    assert (first.app_id, second.app_id) == ("mailwarren", None)
    assert (first.delivery_mode, first.content_type, first.content_encoding, first.priority) == (2, "application/json", "gzip", 7)
    assert first.headers["event"] == "retry"
    assert first.message_id
    assert first.message_id != second.message_id


async def test_nobody_is_bound(queues: Queues, settings: BrokerSettings) -> None:
    async with publishing(settings) as publisher:
        with pytest.raises(Unroutable, match="no queue is bound to exchange 'mailwarren' with the key 'nowhere'"):
            await publisher.publish(Publication("nowhere", b"x"))
        with pytest.raises(Unavailable):
            await publisher.publish_all([Publication("inbox", b"x"), Publication("nowhere", b"x")])
        assert not publisher.lost.done()
        await publisher.publish(Publication("inbox", b"still works"))


async def test_returned_and_acked_in_flight_at_once(queues: Queues, settings: BrokerSettings) -> None:
    """Returns are matched by message_id: one must not be taken for the other."""
    async with publishing(settings) as publisher:
        batch = [Publication("inbox" if number % 2 else "nowhere", b"%d" % number) for number in range(400)]
        outcomes = await asyncio.gather(*map(publisher.publish, batch), return_exceptions=True)
    assert [isinstance(outcome, Unroutable) for outcome in outcomes] == [number % 2 == 0 for number in range(400)]
    assert sorted(int(got.body) for got in await queues.take_now("inbox")) == list(range(1, 400, 2))


async def test_the_second_key(queues: Queues, settings: BrokerSettings) -> None:
    async with publishing(settings) as publisher:
        await publisher.publish(Publication("nowhere", b"x", otherwise="success"))
        assert [got.body for got in await queues.take_now("success")] == [b"x"]
        with pytest.raises(Unroutable):
            await publisher.publish(Publication("nowhere", b"x", otherwise="nowhere.else"))


async def test_a_copy_may_be_dropped_a_mail_never(queues: Queues, settings: BrokerSettings) -> None:
    """A message that names a key of its own which leads nowhere must not keep a worker for ever."""
    async with publishing(settings) as publisher:
        mail = make_message(queues={"success": "my.own", "results": "my.copy", "retry": "my.retry"})
        async with asyncio.timeout(5):
            await publisher.publish_surely(accepted(mail).step.publications)
            await publisher.publish_surely(deferred(mail).step.publications)
    assert len(await queues.take_now("success")) == 1
    assert [got.headers["event"] for got in await queues.take_now("records")] == ["success", "retry"]
    assert len(await queues.take_now("outbox")) == 1


async def test_surely_waits_until_somebody_is_bound(queues: Queues, settings: BrokerSettings) -> None:
    async with publishing(settings) as publisher:
        publications = [Publication("later", b"x"), Publication("inbox", b"y")]
        waiting = asyncio.ensure_future(publisher.publish_surely(publications))
        await until(lambda: _count(queues, "inbox", 1), within=5)
        assert not waiting.done()
        await bind(queues, "later", "later")
        await asyncio.wait_for(waiting, 5)
    assert [got.body for got in await queues.take_now("later")] == [b"x"]
    assert len(await queues.take_now("inbox")) == 1


async def _count(queues: Queues, queue: str, expected: int) -> bool:
    return await queues.count_now(queue) == expected


async def test_the_record_of_a_result_in_the_same_publish(queues: Queues, settings: BrokerSettings) -> None:
    async with publishing(settings) as publisher:
        await publisher.publish_all(accepted(make_message()).step.publications)
    [result], [record] = await queues.take_now("success"), await queues.take_now("records")
    assert result.body == record.body
    assert (result.headers, record.headers["event"]) == (record.headers, "success")
    assert "BCC" not in result.headers


async def test_mail_without_a_queue_is_never_taken_for_routed(queues: Queues, settings: BrokerSettings) -> None:
    """With a record in BCC the broker would: mail is published with its own key alone."""
    await unbind(queues, "outbox", "retries")
    async with publishing(settings) as publisher:
        with pytest.raises(Unroutable, match="'retries'"):
            await publisher.publish_all(deferred(make_message()).step.publications)


async def test_a_record_without_any_queue_is_never_dropped(queues: Queues, settings: BrokerSettings) -> None:
    await unbind(queues, "success", "success")
    await unbind(queues, "records", "record")
    async with publishing(settings) as publisher:
        with pytest.raises(Unroutable, match="'success'"):
            await publisher.publish_all(accepted(make_message()).step.publications)


async def test_a_full_queue_is_tried_again(queues: Queues, settings: BrokerSettings) -> None:
    """A nack of the broker: published again until it is taken."""
    await bind(queues, "small", "small", **{"x-max-length": 1, "x-overflow": "reject-publish"})
    async with publishing(settings) as publisher:
        await publisher.publish(Publication("small", b"1"))
        second = asyncio.ensure_future(publisher.publish(Publication("small", b"2")))
        done, _ = await asyncio.wait({second}, timeout=0.7)
        assert not done
        assert [got.body for got in await queues.take_now("small")] == [b"1"]
        await asyncio.wait_for(second, 5)
    assert [got.body for got in await queues.take_now("small")] == [b"2"]


async def test_the_connection_is_cut_while_publishing(queues: Queues, settings: BrokerSettings) -> None:
    async with proxied(settings.rabbitmq_address) as proxy, publishing(settings, rabbitmq_address=proxy.address) as publisher:
        await publisher.publish(Publication("inbox", b"before"))
        proxy.pause()
        flying = [asyncio.ensure_future(publisher.publish(Publication("inbox", b"%d" % number))) for number in range(50)]
        surely = asyncio.ensure_future(publisher.publish_surely([Publication("inbox", b"a"), Publication("inbox", b"b")]))
        await until(lambda: _has(queues, "inbox", 53), within=5)
        assert not any(one.done() for one in flying)
        proxy.cut()
        outcomes = await asyncio.wait_for(asyncio.gather(*flying, surely, return_exceptions=True), 5)
        assert [type(outcome) for outcome in outcomes] == [BrokerLost] * 51
        assert await asyncio.wait_for(publisher.lost, 5)
        with pytest.raises(BrokerLost):
            await publisher.publish(Publication("inbox", b"after"))


async def _has(queues: Queues, queue: str, expected: int) -> bool:
    return await queues.count_now(queue) >= expected


async def test_a_silent_broker_confirms_later(queues: Queues, settings: BrokerSettings) -> None:
    async with proxied(settings.rabbitmq_address) as proxy, publishing(settings, rabbitmq_address=proxy.address) as publisher:
        proxy.pause()
        flying = asyncio.ensure_future(publisher.publish(Publication("inbox", b"x")))
        await until(lambda: _has(queues, "inbox", 1), within=5)
        assert not flying.done()
        proxy.resume()
        await asyncio.wait_for(flying, 5)


async def test_no_more_in_flight_than_the_throttle(queues: Queues, settings: BrokerSettings) -> None:
    async with (
        proxied(settings.rabbitmq_address) as proxy,
        publishing(settings, rabbitmq_address=proxy.address, rabbitmq_throttle=5) as publisher,
    ):
        proxy.pause()
        flying = [asyncio.ensure_future(publisher.publish(Publication("inbox", b"x"))) for _ in range(20)]
        await until(lambda: _has(queues, "inbox", 5), within=5)
        await asyncio.wait(flying, timeout=0.2)
        assert await queues.count_now("inbox") == 5
        proxy.resume()
        await asyncio.wait_for(asyncio.gather(*flying), 5)
    assert await queues.count_now("inbox") == 20


async def test_an_exchange_that_is_gone(queues: Queues, settings: BrokerSettings) -> None:
    async with publishing(settings, rabbitmq_exchange="gone") as publisher:
        with pytest.raises(BrokerLost, match="no exchange 'gone'"):
            await publisher.publish(Publication("inbox", b"x"))
        assert await asyncio.wait_for(publisher.lost, 5)


async def test_large_bodies(queues: Queues, settings: BrokerSettings) -> None:
    body = bytes(range(256)) * 40_000
    async with publishing(settings) as publisher:
        await publisher.publish(Publication("inbox", body))
    assert [got.body for got in await queues.take_now("inbox")] == [body]


async def test_a_wrong_password(settings: BrokerSettings) -> None:
    scheme, _, rest = settings.rabbitmq_address.partition("://")
    wrong = f"{scheme}://nobody:wrong@{rest.rpartition('@')[2]}"
    with pytest.raises(BadSetting, match="RabbitMQ refused user or password") as told:
        async with publishing(settings, rabbitmq_address=wrong):
            pass
    assert "wrong@" not in str(told.value)


async def test_the_next_address_of_the_list(queues: Queues, settings: BrokerSettings) -> None:
    [port] = free_ports(1)
    several = f"amqp://guest:guest@127.0.0.1:{port}/,{settings.rabbitmq_address}"
    async with publishing(settings, rabbitmq_address=several) as publisher:
        await publisher.publish(Publication("inbox", b"x"))
    with pytest.raises((BrokerLost, AMQPError)):
        await Publisher.open(settings.model_copy(update={"rabbitmq_address": several.split(",")[0]}), name="test", patience=0)
