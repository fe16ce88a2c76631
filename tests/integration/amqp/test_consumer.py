"""The loop that all consumers share, with a real RabbitMQ: publish, then ack; park; hold; drain; and nothing is ever lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.amqp.frame import Frame
from shared.amqp.settings import BrokerSettings
from shared.trouble import BadMessage, Unavailable
from shared.wire.publication import Publication, Step
from tests.integration.amqp.handlers import SUCCESS, Handler, consuming
from tests.integration.amqp.running import deliver_in_vain, empty, holds
from tests.support.queues import Queues
from tests.support.waiting import until


async def test_published_then_acked(queues: Queues, settings: BrokerSettings) -> None:
    handler = Handler()
    async with consuming(settings, handler) as one:
        for number in range(20):
            await queues.publish_now(b"%d" % number, key="inbox")
        await until(lambda: holds(queues, SUCCESS, 20), within=5)
        await one.stop()
    assert await queues.count_now("inbox") == 0
    assert sorted(handler.bodies) == sorted(b"%d" % number for number in range(20))


async def test_what_a_frame_says(queues: Queues, settings: BrokerSettings) -> None:
    handler = Handler()
    headers = {"event": "retry", "x-death": [{"count": 1}], "x-forged": "1"}
    await queues.publish_now(b"x", key="inbox", headers=headers, app_id="mailwarren", encoding="gzip")
    async with consuming(settings, handler):
        await until(lambda: handler.frames, within=5)
    [frame] = handler.frames
    assert (frame.is_ours, frame.encoding, frame.event, frame.delivery_count, frame.redelivered) == (
        True,
        "gzip",
        "retry",
        0,
        False,
    )
    [published] = await queues.take_now(SUCCESS)
    assert not set(headers) & set(published.headers)


async def test_not_acked_before_it_is_published(queues: Queues, settings: BrokerSettings) -> None:
    """And the handler is not run again meanwhile: the mail may have been sent."""
    handler = Handler("nowhere")
    await queues.publish_now(b"x", key="inbox")
    async with consuming(settings, handler, drain_timeout=timedelta(seconds=0.3)) as one:
        await until(lambda: handler.frames, within=5)
        await asyncio.wait({one.task}, timeout=1.2)
        assert len(handler.frames) == 1
        await one.stop()
    await until(lambda: holds(queues, "inbox", 1), within=5)


async def test_published_once_a_queue_is_there_without_a_second_run(queues: Queues, settings: BrokerSettings) -> None:
    handler = Handler("later")
    await queues.publish_now(b"x", key="inbox")

    async def bind(channel: Any) -> None:
        await channel.queue_declare("later", durable=True)
        await channel.queue_bind("later", "mailwarren", routing_key="later")

    async with consuming(settings, handler) as one:
        await until(lambda: handler.frames, within=5)
        await queues.run_now(bind)
        await until(lambda: holds(queues, "later", 1), within=5)
        await one.stop()
    assert len(handler.frames) == 1
    assert await queues.count_now("inbox") == 0


async def test_a_step_without_publications_is_acked(queues: Queues, settings: BrokerSettings) -> None:
    async def handle(_: Frame) -> Step:
        return Step()

    await queues.publish_now(b"x", key="inbox")
    async with consuming(settings, handle) as one:
        await until(lambda: empty(queues, "inbox"), within=5)
        await one.stop()
    assert await queues.count_now("inbox") == 0


# --- park


async def test_a_bad_message_is_parked(queues: Queues, settings: BrokerSettings) -> None:
    async def handle(_: Frame) -> Step:
        raise BadMessage("body is not JSON: because")

    await queues.publish_now(
        b"\xff\x00", key="inbox", headers={"event": "retry", "x-death": "forged"}, app_id="somebody", encoding="br"
    )
    async with consuming(settings, handle) as one:
        await until(lambda: holds(queues, "dead", 1), within=5)
        await one.stop()
    [parked] = await queues.take_now("dead")
    assert (parked.body, parked.encoding, parked.app_id) == (b"\xff\x00", "br", None)
    assert (parked.headers["origin-queue"], parked.headers["reason"]) == ("inbox", "body is not JSON: because")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(parked.headers["time"])).total_seconds()) < 60
    assert parked.headers["event"] == "retry"
    assert "x-death" not in parked.headers
    assert await queues.count_now("inbox") == 0


async def test_a_message_that_keeps_coming_back_is_parked(queues: Queues, settings: BrokerSettings) -> None:
    handler = Handler()
    await queues.publish_now(b"poison", key="inbox")
    await deliver_in_vain(queues, "inbox", 5)
    async with consuming(settings, handler) as one:
        await until(lambda: holds(queues, "dead", 1), within=5)
        await one.stop()
    [parked] = await queues.take_now("dead")
    assert parked.headers["reason"] == "delivered 5 times before without an end"
    assert handler.frames == []


async def test_one_time_less_is_handled(queues: Queues, settings: BrokerSettings) -> None:
    handler = Handler()
    await queues.publish_now(b"suspect", key="inbox")
    await deliver_in_vain(queues, "inbox", 4)
    async with consuming(settings, handler) as one:
        await until(lambda: handler.frames, within=5)
        await one.stop()
    assert [frame.delivery_count for frame in handler.frames] == [4]
    assert await queues.count_now("dead") == 0


async def test_suspects_are_handled_one_at_a_time(queues: Queues, settings: BrokerSettings) -> None:
    at_once: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def handle(frame: Frame) -> Step:
        kind = frame.body.decode()
        at_once[kind] += 1
        most[kind] = max(most[kind], at_once[kind])
        await asyncio.sleep(0.05)
        at_once[kind] -= 1
        return Step()

    for _ in range(4):
        await queues.publish_now(b"suspect", key="inbox")
    await deliver_in_vain(queues, "inbox", 2)
    for _ in range(4):
        await queues.publish_now(b"fresh", key="inbox")
    async with consuming(settings, handle) as one:
        await until(lambda: most.total() and not at_once.total() and empty(queues, "inbox"), within=5)
        await one.stop()
    assert most["suspect"] == 1
    assert most["fresh"] > 1
    assert await queues.count_now("inbox") == 0


# --- hold


async def test_ours_is_down(queues: Queues, settings: BrokerSettings) -> None:
    """Held for a moment, then a wait queue, then again: nothing is counted."""
    frames: list[Frame] = []

    async def handle(frame: Frame) -> Step:
        frames.append(frame)
        if len(frames) < 3:
            raise Unavailable("the store is down")
        return Step((Publication(SUCCESS, frame.body),))

    await queues.publish_now(
        b"mail", key="inbox", headers={"event": "retry", "x-death": "forged"}, app_id="mailwarren", encoding="gzip"
    )
    async with consuming(settings, handle) as one:
        await until(lambda: holds(queues, SUCCESS, 1), within=10)
        await one.stop()
    assert {(frame.body, frame.encoding, frame.is_ours, frame.event, frame.delivery_count) for frame in frames} == {
        (b"mail", "gzip", True, "retry", 0)
    }
    assert [await queues.count_now(queue) for queue in ("inbox", "dead", "wait.30s")] == [0, 0, 0]


async def test_a_foreign_message_stays_foreign_while_held(queues: Queues, settings: BrokerSettings) -> None:
    """Otherwise an old result that somebody publishes again would be believed, with all its attempts."""
    frames: list[Frame] = []

    async def handle(frame: Frame) -> Step:
        frames.append(frame)
        if len(frames) == 1:
            raise Unavailable("down")
        return Step()

    await queues.publish_now(b"{}", key="inbox", app_id="somebody")
    async with consuming(settings, handle):
        await until(lambda: len(frames) == 2, within=10)
    assert [frame.is_ours for frame in frames] == [False, False]


async def test_held_messages_leave_at_once_when_the_process_stops(queues: Queues, settings: BrokerSettings) -> None:
    async def handle(_: Frame) -> Step:
        raise Unavailable("down")

    await queues.publish_now(b"x", key="inbox")
    async with consuming(settings, handle, hold_time=timedelta(seconds=60)) as one:
        await until(lambda: empty(queues, "inbox"), within=5)
        began = asyncio.get_running_loop().time()
        await one.stop()
        assert asyncio.get_running_loop().time() - began < 3
    await until(lambda: holds(queues, "inbox", 1), within=5)
    [back] = await queues.take_now("inbox")
    assert back.headers.get("x-delivery-count", 0) == 0


async def test_a_lower_priority_gets_what_the_higher_one_has_no_hand_free_for(queues: Queues, settings: BrokerSettings) -> None:
    idle, gate = Handler(), asyncio.Event()
    busy = Handler()

    async def wait(frame: Frame) -> Step:
        step = await busy(frame)
        await gate.wait()
        return step

    async with (
        consuming(settings, idle, rabbitmq_qos=50, rabbitmq_consumer_priority=-1),
        consuming(settings, wait, rabbitmq_qos=5),
    ):
        for number in range(20):
            await queues.publish_now(b"%d" % number, key="inbox")
        await until(lambda: len(busy.frames) + len(idle.frames) == 20, within=5)
        # One of the consumer that a process begins with, then as many as its prefetch.
        assert len(busy.frames) == 6
        gate.set()
        await until(lambda: holds(queues, SUCCESS, 20), within=5)
        for number in range(20):
            await queues.publish_now(b"%d" % number, key="inbox")
            await until(lambda: holds(queues, SUCCESS, 21 + number), within=5)  # noqa: B023 - awaited in this turn
        assert len(busy.frames) == 26
