"""A TCP proxy in front of Postgres that cuts the connection at COMMIT, before Postgres hears it or before its answer is heard."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from yarl import URL

_COMMIT = b"COMMIT\0"
"""In the client's Query or Parse, and in the server's CommandComplete (protocol 3.0)."""


class CommitCutter:
    """Forwards both ways; set ``cut`` to "before" or "after" and the next COMMIT ends its connection."""

    def __init__(self, target: URL) -> None:
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut = ""
        self.cuts = 0
        self.address = ""
        """The URL that leads through here."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        server_reader, server_writer = await asyncio.open_connection(self._target.host, self._target.port)
        ends = (writer, server_writer)
        for pump in (self._pump(reader, server_writer, "before", ends), self._pump(server_reader, writer, "after", ends)):
            task = asyncio.ensure_future(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, side: str, ends: tuple[asyncio.StreamWriter, ...]
    ) -> None:
        try:
            while data := await reader.read(65536):
                if self.cut == side and _COMMIT in data:
                    self.cut = ""
                    self.cuts += 1
                    for end in ends:
                        end.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def cutting(database: str) -> AsyncIterator[CommitCutter]:
    """A proxy to this ``postgresql://`` URL."""
    target = URL(database)
    proxy = CommitCutter(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.address = str(target.with_port(server.sockets[0].getsockname()[1]))
    try:
        yield proxy
    finally:
        server.close()
