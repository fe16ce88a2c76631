"""A peer that does what no server does: one function per connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

GREETING = b"220 hostile.example ESMTP\r\n"
EHLO = b"250-hostile.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
FLOOD = 64 * 1024 * 1024
"""Bytes after which a peer that wants to talk for ever has proved its point."""


@dataclass
class Connection:
    """The server's side of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    peer: Hostile

    async def say(self, data: bytes) -> None:
        """Write and wait until it is taken. Raises ConnectionError when the client has left."""
        if self.writer.is_closing():  # uvloop's transports raise a RuntimeError of their own
            raise ConnectionError
        self.writer.write(data)
        await self.writer.drain()
        self.peer.sent += len(data)

    async def hear(self, word: bytes) -> bytes:
        """Read lines until one begins with ``word``; that line."""
        while line := await self.reader.readline():
            self.peer.heard += line
            if line.upper().startswith(word):
                return line
        raise ConnectionError(f"no {word!r} came")

    async def begin(self, ehlo: bytes = EHLO) -> None:
        """Be a server until after EHLO."""
        await self.say(GREETING)
        await self.hear(b"EHLO")
        await self.say(ehlo)

    async def until_354(self) -> None:
        """Be a server until the content."""
        await self.begin()
        await self.hear(b"DATA")
        await self.say(b"250 ok\r\n250 ok\r\n354 go on\r\n")

    async def babble(self, line: bytes, size: int = FLOOD) -> None:
        """Say a line over and over."""
        block = line * (65536 // len(line) + 1)
        for _ in range(size // len(block)):
            await self.say(block)

    async def wait(self) -> None:
        """Say nothing more until the client leaves."""
        while data := await self.reader.read(65536):
            self.peer.heard += data[:1000]

    async def read_nothing(self) -> None:
        """Read nothing until the end of the test."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined] # a transport that reads, too
        await self.peer.is_over.wait()

    def reset(self) -> None:
        """Leave with a TCP RST."""
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Connection], Awaitable[None]]


def answer(command: bytes, reply: bytes) -> Script:
    """A server until ``command``, which gets ``reply``."""

    async def script(peer: Connection) -> None:
        if command == b"CONNECT":
            await peer.say(reply)
        elif command == b"EHLO":
            await peer.say(GREETING)
            await peer.hear(b"EHLO")
            await peer.say(reply)
        else:
            await peer.begin(EHLO.replace(b"250-PIPELINING\r\n", b""))
            for name, usual in ((b"MAIL", b"250 ok\r\n"), (b"RCPT", b"250 ok\r\n"), (b"DATA", b"354 go on\r\n")):
                await peer.hear(name)
                await peer.say(reply if name == command else usual)
            await peer.hear(b".\r\n")
            await peer.say(reply)
        await peer.wait()

    return script


@dataclass
class Hostile:
    """What was said and heard, on all connections."""

    script: Script
    host: str = "127.0.0.1"
    port: int = 0
    connections: int = 0
    sent: int = 0
    heard: bytearray = field(default_factory=bytearray)
    troubles: list[BaseException] = field(default_factory=list)
    """What went wrong on our side."""
    is_over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the attempts are over."""
    open: set[asyncio.Task[None]] = field(default_factory=set)
    """Connections that are not over."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        try:
            await self.script(Connection(reader, writer, self))
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001 - shown by the test
            self.troubles.append(error)
        finally:
            writer.close()
            self.open.discard(task)


@asynccontextmanager
async def hostile(script: Script, host: str = "127.0.0.1") -> AsyncIterator[Hostile]:
    """Run it."""
    peer = Hostile(script, host)
    server = await asyncio.start_server(peer.serve, host, 0, limit=4 * 1024 * 1024)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for task in list(peer.open):
            task.cancel()
        if peer.open:
            await asyncio.wait(list(peer.open), timeout=5)
        assert not peer.troubles, peer.troubles
