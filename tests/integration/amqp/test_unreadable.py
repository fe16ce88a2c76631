"""One publisher's unreadable AMQP properties: parked, and nobody else's mail suffers."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pika
import pika.data

from shared.amqp.frame import Frame
from shared.amqp.settings import BrokerSettings
from shared.wire.publication import Step
from tests.integration.amqp.handlers import consuming
from tests.integration.amqp.running import holds
from tests.integration.amqp.test_batches import Table, recording
from tests.support.queues import Queues
from tests.support.waiting import until

NOT_UTF8 = b"\xff\xfe"


@contextmanager
def careless_client() -> Iterator[None]:
    """pika, as it would be if it did not check what it encodes: the header BAD is written as bytes that are not UTF-8."""
    strict = pika.data.encode_short_string

    def encode(pieces: list[bytes], value: str) -> int:
        if value != "BAD":
            return int(strict(pieces, value))
        pieces.extend((struct.pack("B", len(NOT_UTF8)), NOT_UTF8))
        return 1 + len(NOT_UTF8)

    pika.data.encode_short_string = encode
    try:
        yield
    finally:
        pika.data.encode_short_string = strict


def publish(address: str, queue: str, body: bytes, **properties: Any) -> None:
    with careless_client(), pika.BlockingConnection(pika.URLParameters(address)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True)


async def test_the_message_is_parked_and_its_neighbours_are_handled(queues: Queues, settings: BrokerSettings) -> None:
    handled = []

    async def handle(frame: Frame) -> Step:
        handled.append(frame.body)
        return Step()

    publish(settings.rabbitmq_address, "inbox", b"unreadable", headers={"BAD": "x"})
    publish(settings.rabbitmq_address, "inbox", b"time", timestamp=2**63)
    for number in range(20):
        publish(settings.rabbitmq_address, "inbox", b"%d" % number)
    async with consuming(settings, handle) as one:
        await until(lambda: len(handled) == 20, within=10)
        await until(lambda: holds(queues, "dead", 2), within=5)
        await one.stop()
    parked = await queues.take_now("dead")
    assert sorted(got.body for got in parked) == [b"time", b"unreadable"]
    assert all("cannot be read" in got.headers["reason"] for got in parked)


async def test_in_batches(queues: Queues, settings: BrokerSettings) -> None:
    table = Table()

    async def handle(frames: Sequence[Frame]) -> Mapping[int, str]:
        return await table(frames)

    publish(settings.rabbitmq_address, "inbox", b"unreadable", headers={"BAD": "x"})
    publish(settings.rabbitmq_address, "inbox", b"1")
    async with recording(settings, handle) as one:
        await until(lambda: holds(queues, "dead", 1), within=5)
        await until(lambda: len(table.bodies) == 1, within=5)
        await one.stop()
    assert table.bodies == [b"1"]
