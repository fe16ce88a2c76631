"""A bare SMTP client for tests that must see or send what no library would."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class WireClient:
    """Sends bytes as they are and reads whole replies; use as ``async with``."""

    def __init__(self, host: str, port: int, *, within: float = 10.0) -> None:
        self._address = host, port
        self._within = within  # seconds for each read
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):  # cut by the other side
            await self._writer.wait_closed()

    async def line(self) -> str:
        """One line with its CRLF; empty when the connection was closed. ConnectionResetError on a RST."""
        raw = await asyncio.wait_for(self._reader.readline(), self._within)
        return raw.decode("utf-8", "backslashreplace")

    async def reply(self) -> str:
        """One whole reply (RFC 5321 4.2), its lines joined by ``\\n``; empty when the connection was closed."""
        lines = []
        while line := await self.line():
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                break
        return "\n".join(lines)

    async def send(self, data: bytes) -> None:
        """Exactly these bytes."""
        self._writer.write(data)
        await self._writer.drain()

    async def say(self, line: str) -> str:
        """A command, and its reply."""
        await self.send(line.encode() + b"\r\n")
        return await self.reply()

    async def greet(self, name: str = "client.example") -> str:
        """Reads the greeting and says EHLO; the reply to EHLO."""
        await self.reply()
        return await self.say(f"EHLO {name}")

    async def deliver(
        self, recipient: str, content: bytes = b"Subject: x\r\n\r\nx\r\n", reverse_path: str = "a@b.example"
    ) -> str:
        """A pipelined mail after the greeting: the first refusal, else the reply to the dot.

        ``content`` is sent as it is: whole lines, already dot-stuffed.
        """
        await self.send(f"MAIL FROM:<{reverse_path}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
        replies = [await self.reply() for _ in range(3)]
        for reply in replies:
            if reply[:1] not in ("2", "3"):
                return reply
        await self.send(content + b".\r\n")
        return await self.reply()
