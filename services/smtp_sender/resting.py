"""Hosts that could not be reached are left alone for a while: a mail that meets one is told what the last one was told."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.smtp_sender.session import Ending

STRANGE = 5
"""Strange answers in a row after which a host is left alone."""
MOST = 10_000
"""Entries kept before those that are over are swept."""


class Resting:
    """Bad-host memory: (address, port) → until when it rests, and why."""

    def __init__(self, duration: timedelta) -> None:
        """``duration``: ``host-rest``; 0 = nobody rests."""
        self._duration = duration.total_seconds()
        self._hosts: dict[tuple[str, int], tuple[float, Ending]] = {}
        self._strange: dict[tuple[str, int], int] = {}

    def find(self, address: str, port: int) -> Ending | None:
        """Why the host rests; None when it does not."""
        rest = self._hosts.get((address, port))
        return rest[1] if rest is not None and rest[0] > time.monotonic() else None

    def add(self, address: str, port: int, ending: Ending) -> None:
        """Leave the host alone from now on."""
        now = time.monotonic()
        if len(self._hosts) > MOST:
            self._hosts = {key: rest for key, rest in self._hosts.items() if rest[0] > now}
        since = datetime.now(UTC).strftime("%H:%M:%S")
        text = f"{ending.text or 'no answer'} (not tried again for a while, since {since} UTC)"
        self._hosts[(address, port)] = (now + self._duration, replace(ending, text=text))

    def count_strange(self, address: str, port: int, ending: Ending) -> None:
        """The host answered in a way that a response pattern calls ``strange``: so often in a row, and it rests."""
        if len(self._strange) > MOST:
            self._strange.clear()
        key = (address, port)
        self._strange[key] = self._strange.get(key, 0) + 1
        if self._strange[key] >= STRANGE:
            del self._strange[key]
            self.add(address, port, ending)

    def remove(self, address: str, port: int) -> None:
        """The host answers again."""
        self._hosts.pop((address, port), None)

    def forgive(self, address: str, port: int) -> None:
        """The host took a mail: what was strange before no longer counts."""
        self._strange.pop((address, port), None)
