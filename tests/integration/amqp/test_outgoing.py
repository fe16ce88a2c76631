"""Many publishes at once: the same promises as for one, for a fraction of the cost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.amqp.publisher import Publisher, Refused, Unroutable
from shared.amqp.settings import BrokerSettings
from shared.trouble import BrokerLost, Unavailable
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


LARGER_THAN_A_FRAME = 50_000 * b"large"
LONG_KEY = "k" * 300
"""AMQP has no such key: a short string is of 255 octets at most."""


def left_waiting(publisher: Publisher) -> object:
    """What the channel keeps for messages that were told of already."""
    return publisher._outgoing._channel.confirmations


async def test_forty_callers_in_one_turn_are_each_told_the_truth(queues: Queues, settings: BrokerSettings) -> None:
    await bind(queues, "small", "small", **{"x-max-length": 30, "x-overflow": "reject-publish"})
    keys = ["inbox", "nowhere", "small", "success"]
    batches = [
        [
            Publication(
                keys[(caller + number) % 4],
                b"%d.%d " % (caller, number) + (LARGER_THAN_A_FRAME if caller % 10 == number else b""),
            )
            for number in range(10)
        ]
        for caller in range(40)
    ]
    async with publishing(settings) as publisher:
        writes = count_writes(publisher)
        # Every other caller publishes its ten one by one.
        together = [publisher.publish_each(batch, turns=1) for batch in batches[::2]]
        singly = [asyncio.gather(*(publisher.publish_each([one], turns=1) for one in batch)) for batch in batches[1::2]]
        told = await asyncio.gather(asyncio.gather(*together), asyncio.gather(*singly))
        outcomes = [*(outcome for ten in told[0] for outcome in ten), *(outcome for ten in told[1] for (outcome,) in ten)]
        assert left_waiting(publisher) == {}
        assert await publisher.publish_each([Publication("success", b"afterwards")], turns=1) == [None]
    published = [one for batch in (*batches[::2], *batches[1::2]) for one in batch]
    assert len(outcomes) == len(published) == 400
    lying = {key: sorted(got.body for got in await queues.take_now(key)) for key in ("inbox", "small", "success")}
    for key, trouble in (("inbox", None), ("success", None), ("small", Refused)):
        of_key = [(one.body, outcome) for one, outcome in zip(published, outcomes, strict=True) if one.key == key]
        expected = sorted(body for body, outcome in of_key if outcome is None)
        assert lying[key] == (sorted([*expected, b"afterwards"]) if key == "success" else expected)
        assert {type(outcome) for _, outcome in of_key} == {type(None), trouble or type(None)}
    nowhere = [outcome for one, outcome in zip(published, outcomes, strict=True) if one.key == "nowhere"]
    assert [type(outcome) for outcome in nowhere] == [Unroutable] * 100
    # 4 turns at most: all, and what the full queue refused, once more.
    assert len(writes) < 40


async def test_the_broker_closes_the_channel_in_the_middle(queues: Queues, settings: BrokerSettings) -> None:
    before = [Publication("inbox", b"%d" % number) for number in range(100)]
    after = [Publication("inbox", b"after %d" % number) for number in range(100)]
    async with publishing(settings) as publisher:
        early, (wrong,), late = await asyncio.wait_for(
            asyncio.gather(
                publisher.publish_each(before, turns=1),
                publisher.publish_each([Publication("inbox", b"x", exchange="missing")], turns=1),
                publisher.publish_each(after, turns=1),
            ),
            10,
        )
        assert [type(outcome) for outcome in late] == [BrokerLost] * 100
        assert isinstance(wrong, BrokerLost)
        assert "no exchange 'missing'" in str(wrong)
        assert "missing" in await asyncio.wait_for(asyncio.shield(publisher.lost), 10)
        assert left_waiting(publisher) == {}
        with pytest.raises(BrokerLost):
            await asyncio.wait_for(publisher.publish(Publication("inbox", b"too late")), 10)
    lying = {got.body for got in await queues.take_now("inbox")}
    # What was not confirmed may lie there; what was confirmed does, and nothing from behind the mistake.
    assert {one.body for one, outcome in zip(before, early, strict=True) if outcome is None} <= lying
    assert {type(outcome) for outcome in early} <= {type(None), BrokerLost}
    assert lying <= {one.body for one in before}


async def test_a_message_that_cannot_be_written_ends_alone(queues: Queues, settings: BrokerSettings) -> None:
    async with publishing(settings) as publisher:
        batch = [Publication("inbox", b"1"), Publication(LONG_KEY, b"2"), Publication("success", b"3")]
        among, (single,), others = await asyncio.gather(
            publisher.publish_each(batch, turns=1),
            publisher.publish_each([Publication(LONG_KEY, b"4")], turns=1),
            publisher.publish_each([Publication("inbox", b"%d" % number) for number in range(5, 25)], turns=1),
        )
        assert (among[0], among[2], others) == (None, None, [None] * 20)
        for outcome in (among[1], single):
            assert isinstance(outcome, Unavailable)
            assert "cannot be published with the key 'kkk" in str(outcome)
        assert left_waiting(publisher) == {}
        # No delivery tag was used up: those of the broker and ours go together still.
        assert await publisher.publish_each(batch[:1], turns=1) == [None]
    assert len(await queues.take_now("inbox")) == 22


async def test_a_caller_that_gives_up_harms_nobody(queues: Queues, settings: BrokerSettings) -> None:
    async with (
        proxied(settings.rabbitmq_address) as proxy,
        publishing(settings, rabbitmq_address=proxy.address, rabbitmq_throttle=40) as publisher,
    ):
        proxy.pause()
        keys = ("inbox", "nowhere")
        batches = [[Publication(keys[number % 2], b"%s %d" % (name, number)) for number in range(20)] for name in (b"a", b"b")]
        impatient, patient = (asyncio.ensure_future(publisher.publish_each(batch, turns=1)) for batch in batches)

        async def all_there() -> bool:
            return await queues.count_now("inbox") == 20

        await until(all_there, within=10)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        proxy.resume()
        outcomes = await asyncio.wait_for(patient, 10)
        assert [type(outcome) for outcome in outcomes] == [type(None), Unroutable] * 10
        # His places are free again: the window is as large as before.
        proxy.pause()
        whole = asyncio.ensure_future(publisher.publish_each([Publication("success", b"x")] * 40, turns=1))

        async def window_full() -> bool:
            return await queues.count_now("success") == 40

        await until(window_full, within=10)
        proxy.resume()
        assert await asyncio.wait_for(whole, 10) == [None] * 40
        assert left_waiting(publisher) == {}
        assert not publisher.lost.done()


async def test_when_nothing_is_written_any_more_nobody_waits(queues: Queues, settings: BrokerSettings) -> None:
    async with publishing(settings) as publisher:
        waiting: Any = publisher._connection.write_queue

        async def put(_: Any) -> None:
            raise RuntimeError("a bug of the pump")

        waiting.put, put_before = put, waiting.put
        batch = [Publication("inbox", b"%d" % number) for number in range(10)]
        outcomes = await asyncio.wait_for(publisher.publish_each(batch, turns=1), 10)
        waiting.put = put_before
        assert [type(outcome) for outcome in outcomes] == [BrokerLost] * 10
        assert "a bug of the pump" in await asyncio.wait_for(asyncio.shield(publisher.lost), 10)
        assert left_waiting(publisher) == {}
