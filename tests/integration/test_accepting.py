"""The inboxes' publisher with a real RabbitMQ: mail and record, and what it says when the broker falls silent or goes."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from typing import cast

import pika
import pytest

import shared.amqp.connection
from shared.acceptance import PartlyPublished, Ready
from shared.amqp.accepting import LOST_RECORDS, AcceptingPublisher, verify_keys
from shared.amqp.settings import BrokerSettings
from shared.process import Runtime
from shared.trouble import BadSetting, BrokerLost, Unavailable
from shared.wire.bundle import MOST_RECORDS
from tests.integration.smtp_inbox_process import Link
from tests.support.queues import unbundle
from tests.support.waiting import until


def make_settings(amqp: str, **others: object) -> BrokerSettings:
    return BrokerSettings.model_validate({"rabbitmq_address": amqp, "rabbitmq_exchange": "x", **others})


@pytest.fixture
def amqp(vhost: str) -> str:
    """A virtual host with two queues for the keys of the same name."""
    with closing(pika.BlockingConnection(pika.URLParameters(vhost))) as connection:
        channel = connection.channel()
        channel.exchange_declare("x", "direct", durable=True)
        for name in ("inbox", "record"):
            channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind(name, "x", name)
    return vhost


@asynccontextmanager
async def running(publisher: AcceptingPublisher, runtime: Runtime) -> AsyncIterator[None]:
    """The publisher, connected."""
    task = asyncio.ensure_future(publisher.run(runtime))
    try:
        await until(lambda: runtime.ready or task.done())
        if task.done():
            task.result()
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, BadSetting):
            await task


def take(amqp: str, queue: str) -> tuple[bytes, pika.BasicProperties]:
    with closing(pika.BlockingConnection(pika.URLParameters(amqp))) as connection:
        _, properties, body = connection.channel().basic_get(queue, auto_ack=True)
    return body, properties


async def take_soon(amqp: str, queue: str) -> tuple[bytes, pika.BasicProperties]:
    """The first message, once it is there: nobody waits for records."""

    async def look() -> tuple[bytes, pika.BasicProperties] | None:
        found = await asyncio.to_thread(take, amqp, queue)
        return None if found[0] is None else found

    body, properties = await until(look) or (b"", None)
    return body, properties


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_the_mail_is_there_when_the_call_returns_and_its_record_soon(amqp: str, encoding: str) -> None:
    publisher = AcceptingPublisher(make_settings(amqp, rabbitmq_encoding=encoding), name="test")
    async with running(publisher, Runtime("test")):
        assert publisher.trouble is None
        await publisher([Ready("inbox", b'{"mail": 1}', b'{"record": 1}')])
        for queue, expected, event in (("inbox", {"mail": 1}, None), ("record", {"record": 1}, "accepted")):
            body, properties = await (asyncio.to_thread(take, amqp, queue) if event is None else take_soon(amqp, queue))
            assert json.loads(gzip.decompress(body) if encoding else body) == expected
            assert (properties.content_encoding, properties.delivery_mode) == (encoding or None, 2)
            assert (properties.headers or {}).get("event") == event


async def test_a_record_that_leads_nowhere_is_no_reason_to_refuse_a_mail(amqp: str) -> None:
    publisher = AcceptingPublisher(make_settings(amqp, rabbitmq_record="nowhere"), name="test")
    async with running(publisher, Runtime("test")):
        await publisher([Ready("inbox", b"{}", b"{}")])
        assert (await asyncio.to_thread(take, amqp, "inbox"))[0] == b"{}"
        with pytest.raises(Unavailable, match="no queue is bound"):
            await publisher([Ready("nowhere", b"{}", b"{}")])


async def test_a_bug_in_a_record_is_no_reason_to_refuse_a_mail(amqp: str) -> None:
    publisher = AcceptingPublisher(make_settings(amqp, rabbitmq_encoding="gzip"), name="test")
    broken = cast(bytes, None)
    lost = LOST_RECORDS._value.get()
    async with running(publisher, Runtime("test")):
        await publisher([Ready("inbox", b"1", b"{}"), Ready("inbox", b"2", broken)])
        bodies = [gzip.decompress((await asyncio.to_thread(take, amqp, "inbox"))[0]) for _ in range(2)]
        assert sorted(bodies) == [b"1", b"2"]
        await until(lambda: LOST_RECORDS._value.get() == lost + 2)
        # Nor may it hide which of the mails are on their way.
        with pytest.raises(PartlyPublished) as partly:
            await publisher([Ready("nowhere", b"3", broken), Ready("inbox", b"4", broken)])
        assert partly.value.confirmed == [False, True]
        await until(lambda: LOST_RECORDS._value.get() == lost + 3)
        assert publisher.trouble is None


async def test_what_was_confirmed_is_told_apart_from_what_was_not(amqp: str) -> None:
    publisher = AcceptingPublisher(make_settings(amqp), name="test")
    mails = [Ready("nowhere", b"1", b"r1"), Ready("inbox", b"2", b"r2"), Ready("nowhere", b"3", b"r3")]
    async with running(publisher, Runtime("test")):
        with pytest.raises(PartlyPublished, match="2 of 3 recipients: no queue is bound") as partly:
            await publisher(mails)
        assert partly.value.confirmed == [False, True, False]
        # The record of what is on its way, and no other.
        for queue, body in (("inbox", b"2"), ("record", b"r2")):
            assert (await take_soon(amqp, queue))[0] == body
            assert (await asyncio.to_thread(take, amqp, queue))[0] is None


async def test_records_of_mail_that_ends_here_are_waited_for(amqp: str) -> None:
    publisher = AcceptingPublisher(make_settings(amqp), name="test")
    async with running(publisher, Runtime("test")):
        await publisher([Ready("inbox", b"1", b"r1", "success")])
        body, properties = await asyncio.to_thread(take, amqp, "record")
        assert (body, properties.headers["event"]) == (b"r1", "success")


async def test_the_last_records_go_out_before_the_connection_is_closed(amqp: str) -> None:
    publisher = AcceptingPublisher(make_settings(amqp), name="test")
    async with running(publisher, Runtime("test")):
        await publisher([Ready("inbox", b"%d" % number, b'{"r":%d}' % number) for number in range(300)])
    bodies = [(await asyncio.to_thread(take, amqp, "record"))[0] for _ in range(300 // MOST_RECORDS)]
    assert [record for body in bodies for record in unbundle(body)] == [b'{"r":%d}' % number for number in range(300)]


async def test_a_full_queue_is_a_reason_to_come_again(amqp: str) -> None:
    with closing(pika.BlockingConnection(pika.URLParameters(amqp))) as connection:
        channel = connection.channel()
        channel.queue_declare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.queue_bind("full", "x", "full")
    publisher = AcceptingPublisher(make_settings(amqp), name="test")
    async with running(publisher, Runtime("test")):
        await publisher([Ready("full", b"1", b"{}")])
        with pytest.raises(Unavailable, match="RabbitMQ refuses messages with the key 'full'"):
            await publisher([Ready("full", b"2", b"{}")])
        with pytest.raises(PartlyPublished) as partly:
            await publisher([Ready("full", b"3", b"{}"), Ready("inbox", b"4", b"{}")])
        assert partly.value.confirmed == [False, True]
        # Room while we try again is enough.
        waiting = asyncio.ensure_future(publisher([Ready("full", b"5", b"{}")]))
        assert (await asyncio.to_thread(take, amqp, "full"))[0] == b"1"
        await waiting
        assert (await asyncio.to_thread(take, amqp, "full"))[0] == b"5"


async def test_what_is_missing_at_the_first_connection_is_a_wrong_setting(amqp: str) -> None:
    settings = make_settings(amqp, rabbitmq_exchange="none")
    publisher = AcceptingPublisher(settings, name="test", verify=partial(verify_keys, settings, "test", ("inbox",)))
    with pytest.raises(BadSetting, match="exchange 'none' is missing"):
        async with running(publisher, Runtime("test")):
            pass


async def test_a_lost_connection_is_opened_again(amqp: str) -> None:
    with Link(amqp) as link:
        runtime = Runtime("test")
        publisher = AcceptingPublisher(make_settings(link.amqp), name="test")
        async with running(publisher, runtime):
            link.cut()
            await until(lambda: not runtime.ready)
            assert publisher.trouble == "no connection to RabbitMQ"
            with pytest.raises(Unavailable, match="no connection"):
                await publisher([Ready("inbox", b"{}", b"{}")])
            link.mend()
            await until(lambda: runtime.ready)
            await publisher([Ready("inbox", b"{}", b"{}")])


async def test_a_broker_that_falls_silent_is_lost_with_its_heartbeat(amqp: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared.amqp.connection, "HEARTBEAT", 1)
    with Link(amqp) as link:
        runtime = Runtime("test")
        publisher = AcceptingPublisher(make_settings(link.amqp), name="test")
        async with running(publisher, runtime):
            link.freeze()
            with pytest.raises(BrokerLost, match="closed"):
                async with asyncio.timeout(20):
                    await publisher([Ready("inbox", b"{}", b"{}")])
            await until(lambda: not runtime.ready)
