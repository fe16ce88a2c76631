"""What this process knows of one endpoint while it runs: requests under way, failures in a row, and a rest after them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

PATIENCE = 5.0
"""Seconds that a batch waits for its turn in hand; then it waits in a queue."""


class Busy(Exception):
    """No turn now: others of this endpoint are under way, or it rests. ``after``: when to come back."""

    def __init__(self, reason: str, after: timedelta) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class Line:
    """The way to one endpoint. What it cannot take soon must not take the places of others: see ``turn``."""

    def __init__(self, connections: int, *, timeout: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        """``connections``: requests at once. ``timeout``: of a request."""
        self._free = asyncio.Semaphore(connections)
        self._timeout = timeout
        self._clock = clock
        self._in_hand = 0
        self._is_probing = False
        self._rests_until = 0.0
        self.failures = 0
        """In a row."""

    @asynccontextmanager
    async def turn(self, most: int) -> AsyncIterator[None]:
        """One request, with ``most`` batches in hand at once; after a failure one alone tries. Raises Busy."""
        self._check_rest()
        if self._in_hand >= most:
            raise Busy("busy", timedelta(seconds=PATIENCE))
        self._in_hand += 1
        try:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._free.acquire()
            except TimeoutError:
                raise Busy("busy", timedelta(seconds=PATIENCE)) from None
            try:
                # Those before it may have failed meanwhile.
                self._check_rest()
                is_probe = self.failures > 0
                self._is_probing = is_probe
                try:
                    yield
                finally:
                    if is_probe:
                        self._is_probing = False
            finally:
                self._free.release()
        finally:
            self._in_hand -= 1

    def succeed(self) -> None:
        """Something was taken."""
        self.failures = 0
        self._rests_until = 0.0

    def fail(self, rest: Callable[[int], timedelta]) -> timedelta:
        """Nothing was taken: it rests, and so do its other batches. ``rest``: number of failures in a row → how long."""
        if self._clock() >= self._rests_until:
            # Requests that were under way together fail together, and count once.
            self.failures += 1
        duration = rest(self.failures)
        self._rests_until = max(self._rests_until, self._clock() + duration.total_seconds())
        return duration

    def _check_rest(self) -> None:
        left = self._rests_until - self._clock()
        if left > 0:
            raise Busy("resting", timedelta(seconds=left))
        if self._is_probing:
            raise Busy("resting", self._timeout)
