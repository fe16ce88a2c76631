"""A TCP proxy in front of RabbitMQ that can hold back what the broker says, and cut the connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from yarl import URL


class Proxy:
    """Forwards both ways; ``pause`` stops what the broker says, ``cut`` ends all connections without a word."""

    def __init__(self, target: URL) -> None:
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.address = ""
        """The ``amqp://`` URL that leads through here."""

    def pause(self) -> None:
        """From now on the broker is heard no more."""
        self._open.clear()

    def resume(self) -> None:
        """What was held back goes on."""
        self._open.set()

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        broker_reader, broker_writer = await asyncio.open_connection(self._target.host, self._target.port)
        self._writers += [writer, broker_writer]
        for one in (self._pump(reader, broker_writer, heard=False), self._pump(broker_reader, writer, heard=True)):
            task = asyncio.ensure_future(one)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, heard: bool) -> None:
        try:
            while data := await reader.read(65536):
                if heard:
                    await self._open.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def proxied(address: str) -> AsyncIterator[Proxy]:
    """A proxy to the broker at ``address``."""
    target = URL(address)
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.address = str(target.with_port(server.sockets[0].getsockname()[1]))
    try:
        yield proxy
    finally:
        server.close()
        proxy.resume()
        proxy.cut()
