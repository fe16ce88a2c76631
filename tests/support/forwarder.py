"""A TCP proxy on loopback that forwards both ways, until a test wants something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from yarl import URL


class Forwarder:
    """Every client gets a connection of its own to the target. What happens to octets on their way is up to ``judge``."""

    def __init__(self, target: URL) -> None:
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""
        """The URL that leads through here."""

    async def judge(self, data: bytes, *, heard: bool) -> bool:
        """Whether these octets go on; False resets both connections. ``heard``: the server says them."""
        return True

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        server_reader, server_writer = await asyncio.open_connection(self._target.host, self._target.port)
        ends = (writer, server_writer)
        self._writers += ends
        for pump in (self._pump(reader, server_writer, ends, heard=False), self._pump(server_reader, writer, ends, heard=True)):
            task = asyncio.ensure_future(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: tuple[asyncio.StreamWriter, ...], *, heard: bool
    ) -> None:
        try:
            while data := await reader.read(65536):
                if not await self.judge(data, heard=heard):
                    for end in ends:
                        end.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


F = TypeVar("F", bound=Forwarder)


@asynccontextmanager
async def forwarding(proxy: F, target: URL) -> AsyncIterator[F]:
    """``proxy`` at work; ``target``: where it leads, whose URL its ``address`` is made of."""
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.address = str(target.with_port(server.sockets[0].getsockname()[1]))
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
