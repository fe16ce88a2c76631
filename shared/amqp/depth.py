"""How many messages wait in a queue, as plain AMQP tells it (a passive declare)."""

import asyncio
from typing import Any

import aiormq
from aiormq.exceptions import AMQPError

from shared.amqp.connection import connect_once
from shared.amqp.settings import BrokerSettings
from shared.trouble import Unavailable


class QueueDepth:
    """Asks over a connection of its own, opened when needed and again after trouble."""

    def __init__(self, settings: BrokerSettings, *, name: str) -> None:
        self._settings = settings
        self._name = name
        self._connection: aiormq.Connection | None = None
        self._channel: Any = None

    async def count(self) -> int:
        """Messages in ``rabbitmq-queue`` that no consumer has in hand. Raises Unavailable."""
        try:
            async with asyncio.timeout(10):
                if self._channel is None or self._channel.is_closed:
                    await self._open()
                declared = await self._channel.queue_declare(self._settings.rabbitmq_queue, passive=True)
        except (AMQPError, OSError, RuntimeError, TimeoutError) as error:
            await self.close()
            raise Unavailable(f"RabbitMQ: {error or type(error).__name__}") from error
        return int(declared.message_count or 0)

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and not connection.is_closed:
            await connection.close()

    async def _open(self) -> None:
        await self.close()
        address = self._settings.rabbitmq_address.split(",")[0]
        self._connection = await connect_once(address, name=self._name, verify=self._settings.rabbitmq_verify)
        self._channel = await self._connection.channel(publisher_confirms=False)
