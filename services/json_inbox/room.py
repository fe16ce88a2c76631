"""Room for the bodies of requests: however many clients send large ones at once, no more than so many bytes are in hand."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from services.json_inbox.problems import unavailable


class Room:
    """Bytes to be held while a request is read and answered; who finds none waits, first come, first served."""

    def __init__(self, capacity: int, patience: timedelta) -> None:
        """``patience``: how long somebody waits for room (``http-body-timeout``)."""
        self._free = self._capacity = capacity
        self._patience = patience
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold ``size`` bytes. Raises Problem (503) when there was no room for too long."""
        size = min(size, self._capacity)
        await self._take(size)
        try:
            yield
        finally:
            self._free += size
            self._serve()

    async def _take(self, size: int) -> None:
        if size <= self._free and not self._waiting:
            self._free -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                await turn
        except BaseException as error:
            # A waiter that was served and then cut off gives back what it got; one that was not leaves the line.
            if (size, turn) in self._waiting:
                self._waiting.remove((size, turn))
            else:
                self._free += size
            self._serve()
            if isinstance(error, TimeoutError):
                raise unavailable("too many large requests are in hand: nothing was read, send again") from None
            raise

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            size, turn = self._waiting.popleft()
            self._free -= size
            turn.set_result(None)
