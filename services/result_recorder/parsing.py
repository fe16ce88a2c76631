"""The records of a batch, read in portions: ahead of time while another batch is stored, and no more at once than memory allows."""

import asyncio
from collections import deque
from collections.abc import Sequence

from services.result_recorder.handler import Record, parse_frame
from shared.amqp.frame import Frame

MOST_RECORDS = 1000
"""In one transaction (and what more comes in the same message)."""
_AHEAD = 4 * MOST_RECORDS
"""Records that are read before they are asked for."""
_PORTION = 25
"""Messages read in one go; then others have their turn."""

Placed = tuple[int, Record]
"""A record, behind the index of the frame that it came in."""


class Parsing:
    """The records of some frames, once."""

    def __init__(self, frames: Sequence[Frame], *, now: int, client_prefix: str) -> None:
        self.frames = frames
        self.reasons: dict[int, str] = {}
        """Index of a frame → what is wrong with it; whole when ``take`` has returned nothing."""
        self._now = now
        self._client_prefix = client_prefix
        self._next = 0
        self._groups: deque[list[Placed]] = deque()
        self._group: list[Placed] = []

    async def read_ahead(self) -> None:
        """Read what is likely all of it."""
        while self._next < len(self.frames) and len(self._groups) * MOST_RECORDS < _AHEAD:
            self._read(_PORTION)
            await asyncio.sleep(0)

    def take(self) -> list[Placed]:
        """The next records, about MOST_RECORDS of them; none: that was all."""
        while not self._groups and self._next < len(self.frames):
            self._read(1)
        if self._groups:
            return self._groups.popleft()
        rest, self._group = self._group, []
        return rest

    def _read(self, count: int) -> None:
        for index in range(self._next, min(self._next + count, len(self.frames))):
            found, wrong = parse_frame(self.frames[index], now=self._now, client_prefix=self._client_prefix)
            if wrong:
                self.reasons[index] = wrong
            self._group += [(index, record) for record in found]
            if len(self._group) >= MOST_RECORDS:
                self._groups.append(self._group)
                self._group = []
        self._next = min(self._next + count, len(self.frames))
