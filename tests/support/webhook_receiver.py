"""A receiver of webhooks that does as it is told: takes, refuses, hangs, never ends its answer, breaks off."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.support.waiting import wait_until

MODES = ("ok", "slow", "endless", "endless-head", "reset")
"""Besides these a mode is a status code, perhaps with a header: ``500``, ``429 Retry-After: 7``, ``302 Location: http://…``."""


@dataclass(frozen=True, slots=True)
class Post:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes
    mode: str
    """What became of it."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """What it tells."""
        events: list[dict[str, Any]] = json.loads(self.body)["events"]
        return events

    @property
    def ids(self) -> list[str]:
        """The ids of its events."""
        return [event["id"] for event in self.events]


class Receiver:
    """``with Background() as background: receiver = background.enter(Receiver())``; the posts are in ``posts``."""

    def __init__(self, mode: str = "ok", *, tls: ssl.SSLContext | None = None) -> None:
        self.mode = mode
        """What becomes of the next request."""
        self.modes: dict[str, str] = {}
        """By path, where it is another one."""
        self.posts: list[Post] = []
        self._tls = tls
        self._serving: set[asyncio.Task[None]] = set()

    def wait_for_posts(self, count: int) -> None:
        """Until there were so many; not from the loop that it runs in."""
        wait_until(lambda: len(self.posts) >= count, within=30, what=f"{count} posts")

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def at(self, path: str) -> list[Post]:
        """The posts that came to a path."""
        return [post for post in self.posts if post.path == path]

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            path, headers, body = await _read(reader)
            mode = self.modes.get(path, self.mode)
            self.posts.append(Post(path, headers, body, mode))
            with suppress(ConnectionError):
                await self._answer(mode, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, mode: str, writer: asyncio.StreamWriter) -> None:
        if mode == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
        if mode == "slow":
            await asyncio.Event().wait()
        if mode.startswith("endless"):
            writer.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if mode == "endless" else b"X-A: "))
            while True:
                writer.write(b"x" * 10_000)
                await writer.drain()
        status, _, header = ("200" if mode == "ok" else mode).partition(" ")
        head = (
            f"HTTP/1.1 {status} X\r\n" + (f"{header}\r\n" if header else "") + "Content-Length: 2\r\nConnection: close\r\n\r\nok"
        )
        writer.write(head.encode())
        await writer.drain()


async def _read(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return first.split()[1], headers, await reader.readexactly(int(headers.get("content-length", 0)))
