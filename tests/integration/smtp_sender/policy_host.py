"""An HTTPS server that has one file: a domain's MTA-STS policy, or whatever a test wants it to answer."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

POLICY = "version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: {max_age}\r\n"


def policy(mode: str = "enforce", mx: str = "mx.example", max_age: int = 86_400) -> bytes:
    """A policy file."""
    return POLICY.format(mode=mode, mx=mx, max_age=max_age).encode()


@dataclass(slots=True)
class PolicyHost:
    """Answers every request the same; use as ``async with``."""

    tls: ssl.SSLContext
    body: bytes = field(default_factory=policy)
    status: str = "200 OK"
    headers: str = "Content-Type: text/plain\r\n"
    is_silent: bool = False
    requests: list[str] = field(default_factory=list)
    """Request line and Host of each."""
    server_names: list[str | None] = field(default_factory=list)
    """What clients said in SNI, handshakes that failed included."""
    connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen on 127.0.0.1."""
        self.tls.sni_callback = lambda _, name, __: self.server_names.append(name)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            host = next(line for line in head.split("\r\n") if line.lower().startswith("host:"))
            self.requests.append(f"{head.split(chr(13))[0]} {host}")
            if self.is_silent:
                await reader.read()
                return
            answer = f"HTTP/1.1 {self.status}\r\n{self.headers}Content-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
            writer.write(answer.encode() + self.body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass  # the client has had enough
        finally:
            writer.close()
