"""A TCP proxy in front of Postgres that cuts the connection at COMMIT, before Postgres hears it or before its answer is heard."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from yarl import URL

from tests.support.forwarder import Forwarder, forwarding

_COMMIT = b"COMMIT\0"
"""In the client's Query or Parse, and in the server's CommandComplete (protocol 3.0)."""


class CommitCutter(Forwarder):
    """Set ``cut_at`` to "before" or "after" and the next COMMIT ends its connection."""

    def __init__(self, target: URL) -> None:
        super().__init__(target)
        self.cut_at = ""
        self.cuts = 0

    async def judge(self, data: bytes, *, heard: bool) -> bool:
        """All goes on but the COMMIT that was waited for, or the answer to it."""
        if self.cut_at != ("after" if heard else "before") or _COMMIT not in data:
            return True
        self.cut_at = ""
        self.cuts += 1
        return False


@asynccontextmanager
async def cutting(database: str) -> AsyncIterator[CommitCutter]:
    """A proxy to this ``postgresql://`` URL."""
    target = URL(database)
    async with forwarding(CommitCutter(target), target) as proxy:
        yield proxy
