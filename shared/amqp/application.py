"""RabbitMQ as an application sees it: publishes mail like anybody, looks at what passes. Nothing here carries our app-id."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiormq
from aiormq.exceptions import AMQPError, ChannelNotFoundEntity, DeliveryError, PublishError
from pamqp import commands

from shared.amqp.connection import connect, when_closed
from shared.amqp.settings import BrokerSettings
from shared.trouble import BadSetting, BrokerLost, Unavailable
from shared.wire.document import WireError, parse_document

ANSWER_WITHIN = 30
"""Seconds for one answer of the broker: one in alarm says nothing."""


async def publish_as_application(settings: BrokerSettings, exchange: str, key: str, bodies: Sequence[bytes]) -> None:
    """Publish JSON bodies, persistent and mandatory; return when all are confirmed. Raises BadSetting, Unavailable or BrokerLost."""
    async with _channel(settings, "send") as channel:
        for body in bodies:
            properties = commands.Basic.Properties(content_type="application/json", delivery_mode=2)
            try:
                await channel.basic_publish(
                    body, exchange=exchange, routing_key=key, properties=properties, mandatory=True, timeout=ANSWER_WITHIN
                )
            except PublishError:
                raise Unavailable(f"no queue is bound to exchange {exchange!r} with key {key!r}") from None
            except DeliveryError:
                raise Unavailable("RabbitMQ refused the message (a queue is full)") from None


async def follow(settings: BrokerSettings, key: str) -> AsyncGenerator[Mapping[str, Any], None]:
    """The JSON objects that pass ``key`` from now on, as long as the caller asks.

    Read from an exclusive queue that goes with the connection: nobody else gets a message less. Raises BadSetting or BrokerLost.
    """
    if not settings.rabbitmq_exchange:
        raise BadSetting("rabbitmq-exchange is empty: on the default exchange nothing can be read beside its reader")
    async with _channel(settings, "results") as channel:
        declared = await channel.queue_declare(exclusive=True, auto_delete=True, timeout=ANSWER_WITHIN)
        await channel.queue_bind(declared.queue, settings.rabbitmq_exchange, key, timeout=ANSWER_WITHIN)
        async for message in _consume(channel, declared.queue):
            try:
                yield parse_document(message.body, message.header.properties.content_encoding)
            except WireError as error:
                yield {"unreadable": str(error)}


async def _consume(channel: Any, queue: str) -> AsyncIterator[Any]:
    waiting: asyncio.Queue[Any] = asyncio.Queue()

    async def deliver(message: Any) -> None:
        waiting.put_nowait(message)

    when_closed(channel, lambda reason: waiting.put_nowait(BrokerLost(f"RabbitMQ: {reason}")))
    await channel.basic_consume(queue, deliver, no_ack=True, timeout=ANSWER_WITHIN)
    while True:
        item = await waiting.get()
        if isinstance(item, BrokerLost):
            raise item
        yield item


@asynccontextmanager
async def _channel(settings: BrokerSettings, name: str) -> AsyncIterator[Any]:
    connection: aiormq.Connection = await connect(
        settings.rabbitmq_address, name=f"mailwarren {name}", verify=settings.rabbitmq_verify, patience=0
    )
    try:
        yield await connection.channel(publisher_confirms=True, on_return_raises=True)
    except ChannelNotFoundEntity as error:
        raise Unavailable(f"RabbitMQ: {error}") from None
    except (AMQPError, OSError, TimeoutError) as error:
        raise BrokerLost(f"RabbitMQ: {error or type(error).__name__}") from error
    finally:
        await connection.close()
