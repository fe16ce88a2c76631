"""A TCP proxy in front of RabbitMQ that can hold back what the broker says, and cut the connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from yarl import URL

from tests.support.forwarder import Forwarder, forwarding


class Proxy(Forwarder):
    """``pause`` stops what the broker says, ``cut`` ends all connections without a word."""

    def __init__(self, target: URL) -> None:
        super().__init__(target)
        self._open = asyncio.Event()
        self._open.set()

    def pause(self) -> None:
        """From now on the broker is heard no more."""
        self._open.clear()

    def resume(self) -> None:
        """What was held back goes on."""
        self._open.set()

    async def judge(self, data: bytes, *, heard: bool) -> bool:
        """All goes on, sooner or later."""
        if heard:
            await self._open.wait()
        return True


@asynccontextmanager
async def proxied(address: str) -> AsyncIterator[Proxy]:
    """A proxy to the broker at ``address``."""
    target = URL(address)
    async with forwarding(Proxy(target), target) as proxy:
        try:
            yield proxy
        finally:
            proxy.resume()
