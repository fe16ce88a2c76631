"""Reading and filling queues in integration tests, as an application or an operator would."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiormq
import orjson
from pamqp import commands


@dataclass(frozen=True, slots=True)
class Got:
    """One message taken out of a queue."""

    body: bytes
    headers: Mapping[str, Any]
    app_id: str | None
    encoding: str | None
    key: str
    """The routing key it was published with."""

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object in the body."""
        raw = gzip.decompress(self.body) if self.encoding == "gzip" else self.body
        document: dict[str, Any] = orjson.loads(raw)
        return document


class Queues:
    """The queues of one virtual host. Every call connects anew: slow, and simple."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def publish_now(
        self,
        body: bytes | Mapping[str, Any],
        *,
        exchange: str = "mailwarren",
        key: str = "",
        headers: Mapping[str, Any] | None = None,
        app_id: str | None = None,
        encoding: str | None = None,
    ) -> None:
        """Publish, confirmed and routed."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        properties = commands.Basic.Properties(
            headers=dict(headers or {}), app_id=app_id, content_encoding=encoding, delivery_mode=2
        )

        async def do(channel: Any) -> None:
            await channel.basic_publish(raw, exchange=exchange, routing_key=key, properties=properties, mandatory=True)

        await self.run_now(do)

    async def take_now(self, queue: str) -> list[Got]:
        """Everything that lies in the queue, records one by one; it is empty afterwards."""
        taken: list[Got] = []

        async def do(channel: Any) -> None:
            while True:
                message = await channel.basic_get(queue, no_ack=True)
                if isinstance(message.delivery, commands.Basic.GetEmpty):
                    return
                properties = message.header.properties
                key = str(message.delivery.routing_key)
                traits = properties.headers or {}, properties.app_id, properties.content_encoding, key
                taken.extend(Got(body, *traits) for body in unbundle(message.body))

        await self.run_now(do)
        return taken

    async def count_now(self, queue: str) -> int:
        """How many messages are ready in the queue."""
        counts: list[int] = []

        async def do(channel: Any) -> None:
            counts.append((await channel.queue_declare(queue, passive=True)).message_count)

        await self.run_now(do)
        return counts[0]

    async def run_now(self, do: Callable[[Any], Awaitable[None]]) -> None:
        """Run ``do(channel)`` on a connection of its own."""
        connection = await aiormq.connect(self.address)
        try:
            await do(await connection.channel(publisher_confirms=True, on_return_raises=True))
        finally:
            await connection.close()

    def publish(self, body: bytes | Mapping[str, Any], **options: Any) -> None:
        """``publish_now`` for a test without an event loop; so are the others below."""
        asyncio.run(self.publish_now(body, **options))

    def take(self, queue: str) -> list[Got]:
        """See ``take_now``."""
        return asyncio.run(self.take_now(queue))

    def count(self, queue: str) -> int:
        """See ``count_now``."""
        return asyncio.run(self.count_now(queue))

    def run(self, do: Callable[[Any], Awaitable[None]]) -> None:
        """See ``run_now``."""
        asyncio.run(self.run_now(do))


def unbundle(body: bytes) -> list[bytes]:
    """The records of a message that holds a list of them, or else its body."""
    return [orjson.dumps(record) for record in orjson.loads(body)] if body.startswith(b"[{") else [body]
