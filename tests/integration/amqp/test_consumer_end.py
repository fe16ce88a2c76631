"""How the loop ends: stopped, by a bug, or without its broker. Nothing is lost, and what was done is acked."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from pamqp import commands

from shared.amqp import consumer as module
from shared.amqp import consuming as watching
from shared.amqp.consumer import Consumer
from shared.amqp.consuming import Consuming, open_consumer
from shared.amqp.frame import Frame
from shared.amqp.publisher import Publisher
from shared.amqp.settings import BrokerSettings
from shared.process import Runtime
from shared.trouble import BrokerLost
from shared.wire.publication import Publication, Step
from tests.integration.amqp.handlers import SUCCESS, Handler, consuming
from tests.integration.amqp.proxy import proxied
from tests.integration.amqp.running import empty, holds
from tests.support.queues import Queues
from tests.support.waiting import until


async def test_a_bug_ends_the_process_and_loses_nothing(queues: Queues, settings: BrokerSettings) -> None:
    async def handle(frame: Frame) -> Step:
        if frame.body == b"kills":
            raise ZeroDivisionError("a bug")
        return Step((Publication(SUCCESS, frame.body),))

    async with consuming(settings, handle) as one:
        for body in (b"1", b"2", b"kills"):
            await queues.publish_now(body, key="inbox")
        assert isinstance(await one.end(), ZeroDivisionError)
    await until(lambda: holds(queues, "inbox", 1), within=5)
    [back] = await queues.take_now("inbox")
    assert (back.body, back.headers["x-delivery-count"]) == (b"kills", 1)
    assert sorted(got.body for got in await queues.take_now(SUCCESS)) == [b"1", b"2"]


async def test_what_was_finished_a_moment_before_a_bug_is_acked(queues: Queues, settings: BrokerSettings) -> None:
    """Or every mail that was delivered in the same moment would be delivered twice."""
    done, is_last = 0, asyncio.Event()

    async def handle(frame: Frame) -> Step:
        nonlocal done
        if frame.body == b"kills":
            await is_last.wait()
            raise ZeroDivisionError("a bug")
        done += 1
        if done == 100:
            is_last.set()
        return Step()

    async with consuming(settings, handle) as one:

        async def publish(channel: Any) -> None:
            for body in [b"kills"] + [b"fine"] * 100:
                properties = commands.Basic.Properties(delivery_mode=2)
                await channel.basic_publish(body, exchange="mailwarren", routing_key="inbox", properties=properties)

        await queues.run_now(publish)
        assert isinstance(await one.end(), ZeroDivisionError)
    await until(lambda: _has(queues, "inbox", 1), within=5)
    assert [got.body for got in await queues.take_now("inbox")] == [b"kills"]


async def _has(queues: Queues, queue: str, least: int) -> bool:
    return await queues.count_now(queue) >= least


async def test_a_mail_that_kills_the_process_takes_no_neighbour_along(queues: Queues, settings: BrokerSettings) -> None:
    """Each death counts for everything in hand. The killer is parked, all others are handled, once."""
    handled: Counter[bytes] = Counter()
    for number in range(20):
        await queues.publish_now(b"killer" if number == 3 else b"%d" % number, key="inbox")
    deaths = 0
    while not await queues.count_now("dead"):
        async with proxied(settings.rabbitmq_address) as proxy:

            async def handle(frame: Frame) -> Step:
                if frame.body == b"killer":
                    await asyncio.sleep(0.1)
                    proxy.cut()
                    await asyncio.Event().wait()
                await asyncio.sleep(0.3)
                return Step((Publication(SUCCESS, frame.body),))

            async with consuming(settings, handle, rabbitmq_address=proxy.address, drain_timeout=timedelta(0)) as one:
                while not one.task.done() and not await queues.count_now("dead"):
                    await asyncio.wait({one.task}, timeout=0.1)
                deaths += one.task.done()
        assert deaths <= 5
    async with consuming(settings, Handler()) as one:
        await until(lambda: empty(queues, "inbox"), within=10)
        await one.stop()
    assert [got.body for got in await queues.take_now("dead")] == [b"killer"]
    handled.update(got.body for got in await queues.take_now(SUCCESS))
    assert set(handled) == {b"%d" % number for number in range(20) if number != 3}
    assert deaths == 5


async def test_stop_finishes_what_is_in_hand(queues: Queues, settings: BrokerSettings) -> None:
    started = 0

    async def handle(frame: Frame) -> Step:
        nonlocal started
        started += 1
        await asyncio.sleep(0.5)
        return Step((Publication(SUCCESS, frame.body),))

    for number in range(5):
        await queues.publish_now(b"%d" % number, key="inbox")
    async with consuming(settings, handle) as one:
        await until(lambda: started == 5, within=5)
        await one.stop()
        assert not one.task.exception()
    assert len(await queues.take_now(SUCCESS)) == 5
    assert await queues.count_now("inbox") == 0


@pytest.mark.parametrize("qos", [1, 20, 1000])
async def test_stop_in_the_middle_of_many(queues: Queues, settings: BrokerSettings, qos: int) -> None:
    """Whatever is handled is acked, whatever is not is back in the queue: nothing is lost, nothing handled twice."""
    many = 1500
    handler = Handler()

    async def publish(channel: Any) -> None:
        properties = commands.Basic.Properties(delivery_mode=2)
        await asyncio.gather(
            *(
                channel.basic_publish(b"%d" % number, exchange="mailwarren", routing_key="inbox", properties=properties)
                for number in range(many)
            )
        )

    await queues.run_now(publish)
    async with consuming(settings, handler, rabbitmq_qos=qos) as one:
        await until(lambda: len(handler.frames) > 100, within=10, every=0.001)
        await one.stop()
    left = [got.body for got in await queues.take_now("inbox")]
    handled = handler.bodies
    assert sorted([*left, *handled], key=int) == [b"%d" % number for number in range(many)]
    assert len(await queues.take_now(SUCCESS)) == len(handled)


async def test_an_endless_handler_does_not_keep_the_process(queues: Queues, settings: BrokerSettings) -> None:
    started = asyncio.Event()

    async def handle(_: Frame) -> Step:
        started.set()
        await asyncio.Event().wait()
        return Step()

    await queues.publish_now(b"x", key="inbox")
    async with consuming(settings, handle, drain_timeout=timedelta(seconds=0.2)) as one:
        await asyncio.wait_for(started.wait(), 5)
        await one.stop()
    await until(lambda: holds(queues, "inbox", 1), within=5)


# --- the broker is lost


async def test_the_queue_is_deleted(queues: Queues, settings: BrokerSettings) -> None:
    async with consuming(settings, Handler()) as one:
        await queues.run_now(lambda channel: channel.queue_delete("inbox"))
        error = await one.end()
    assert isinstance(error, BrokerLost)
    assert "'inbox' was deleted or moved" in str(error)


async def test_no_queue_at_all(queues: Queues, settings: BrokerSettings) -> None:
    await queues.run_now(lambda channel: channel.queue_delete("inbox"))
    publisher = await Publisher.open(settings, name="test", patience=5)
    with pytest.raises(BrokerLost, match="while consuming 'inbox'"):
        await Consumer(settings, Runtime("test"), publisher, Handler(), home="inbox").run()
    await publisher.close()


async def test_the_connection_is_cut(queues: Queues, settings: BrokerSettings) -> None:
    """What was published but not acked comes again; nothing is lost."""
    async with proxied(settings.rabbitmq_address) as proxy:
        handler = Handler()
        async with consuming(settings, handler, rabbitmq_address=proxy.address) as one:
            for number in range(10):
                await queues.publish_now(b"%d" % number, key="inbox")
            await until(lambda: len(handler.frames) == 10, within=5)
            proxy.cut()
            assert isinstance(await one.end(), BrokerLost)
    published = {got.body for got in await queues.take_now(SUCCESS)}
    left = {got.body for got in await queues.take_now("inbox")}
    assert published | left == {b"%d" % number for number in range(10)}


async def test_the_publisher_alone_is_lost(queues: Queues, settings: BrokerSettings) -> None:
    runtime = Runtime("test")
    publisher = await Publisher.open(settings, name="test", patience=5)
    task = asyncio.ensure_future(Consumer(settings, runtime, publisher, Handler(), home="inbox").run())
    await until(lambda: runtime.ready, within=5)
    await publisher.close()
    await asyncio.wait({task}, timeout=10)
    assert isinstance(task.exception(), BrokerLost)


async def test_a_consumer_that_the_broker_has_forgotten(
    queues: Queues, settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled behind the loop's back, as after some trouble of the library: no sign on the connection."""
    opened: list[Consuming] = []

    async def open_and_note(*given: Any, **more: Any) -> Consuming:
        opened.append(await open_consumer(*given, **more))
        return opened[0]

    monkeypatch.setattr(watching, "WATCH_INTERVAL", 0.1)
    monkeypatch.setattr(module, "open_consumer", open_and_note)
    async with consuming(settings, Handler()) as one:
        await asyncio.wait({one.task}, timeout=0.5)
        assert not one.task.done()
        await opened[0].channel.basic_cancel(opened[0].tags[0])
        error = await one.end()
    assert isinstance(error, BrokerLost)
    assert "no longer knows a consumer" in str(error)


async def test_many_acks_out_of_order_just_before_the_end(queues: Queues, settings: BrokerSettings) -> None:
    """RabbitMQ stashes acks of a quorum queue and forgets the stash when the channel closes: mail would be sent twice."""
    many, release = 400, asyncio.Event()
    handled = 0

    async def handle(frame: Frame) -> Step:
        nonlocal handled
        handled += 1
        if int(frame.body) % 2:
            await release.wait()
        return Step()

    async def publish(channel: Any) -> None:
        given = {"exchange": "mailwarren", "routing_key": "inbox", "properties": commands.Basic.Properties(delivery_mode=2)}
        await asyncio.gather(*(channel.basic_publish(b"%d" % number, **given) for number in range(many)))

    async with consuming(settings, handle, rabbitmq_qos=many) as one:
        await queues.run_now(publish)
        await until(lambda: handled == many, within=10, every=0.001)
        release.set()
        await one.stop()
    assert [got.body for got in await queues.take_now("inbox")] == []
