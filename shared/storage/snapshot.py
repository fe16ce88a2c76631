"""A table as this process last saw it: in memory, refreshed when Postgres notifies a change and now and then, kept on disk.

With Postgres down the process goes on with what it has. One that has never seen the table must hold what needs it rather than guess.
"""

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
from prometheus_client import Gauge
from psycopg import sql

from shared.log import get_logger
from shared.storage.database import Connection, DatabaseSettings, connect, translating
from shared.trouble import Unavailable

log = get_logger()

FETCH_TIMEOUT = 10.0
"""Seconds: a frozen Postgres does not obey its own statement timeout."""
RETRY_PAUSE = 2.0
"""Seconds between two tries to reach Postgres."""

T = TypeVar("T")


class Snapshot(ABC, Generic[T]):
    """The items of a table, parsed, all or none: a subclass says which."""

    what: str
    """The items in words, for logs: ``rules``."""
    table: str
    """Also the channel on which its changes are notified."""
    count: Gauge
    """Shows how many items are in force."""
    fresh: Gauge
    """Shows 1 while they follow Postgres."""

    def __init__(self, settings: DatabaseSettings, *, name: str, path: Path, refresh: timedelta) -> None:
        """``name``: the process. ``path``: the copy on disk. ``refresh``: read again after so long without a notice."""
        self._settings = settings
        self._name = name
        self._path = path
        self._refresh = refresh
        self._items: list[T] | None = None

    @abstractmethod
    async def fetch(self, connection: Connection) -> Sequence[Mapping[str, Any]]:
        """The rows. Raises psycopg's errors."""

    @abstractmethod
    def parse(self, documents: Sequence[Mapping[str, Any]]) -> list[T]:
        """The items of rows, or of what ``render`` made. Raises ValueError when one cannot be read: then none of them counts."""

    @abstractmethod
    def render(self, item: T) -> Mapping[str, Any]:
        """An item as it is kept on disk."""

    @property
    def items(self) -> list[T]:
        """Those in force. Raises Unavailable when none were ever seen."""
        if self._items is None:
            raise Unavailable(f"the {self.what} were never seen: Postgres is out of reach and there is no snapshot on disk")
        return self._items

    async def load(self) -> None:
        """The first ones: from Postgres, else from disk, else none yet."""
        try:
            connection = await connect(self._settings, name=self._name)
            async with translating(), connection, asyncio.timeout(FETCH_TIMEOUT):
                self.take(await self.fetch(connection))
        except Unavailable as error:
            log.warning("starting with the last snapshot", what=self.what, reason=str(error))
        if self._items is None:
            self._items = self.read()
            self.count.set(len(self._items or ()))

    async def follow(self) -> None:
        """Keep them fresh, for ever."""
        while True:
            try:
                await self._follow_once()
            except (Unavailable, OSError) as error:
                self.fresh.set(0)
                log.warning("going on with the last snapshot", what=self.what, reason=str(error))
            await asyncio.sleep(RETRY_PAUSE)

    async def _follow_once(self) -> None:
        connection = await connect(self._settings, name=self._name)
        async with translating(), connection:
            await listen(connection, self.table)
            while True:
                async with asyncio.timeout(FETCH_TIMEOUT):
                    self.take(await self.fetch(connection))
                await wait_for_change(connection, self._refresh)

    def take(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """These are in force from now on, unless one of them cannot be read."""
        try:
            items = self.parse(rows)
        except ValueError as error:
            # Without the one that cannot be read, mail would go another way than somebody asked for.
            self.fresh.set(0)
            log.error("one of them cannot be read: going on with the last snapshot", what=self.what, reason=str(error))
            return
        self.fresh.set(1)
        if items == self._items:
            return
        self._items = items
        self.count.set(len(items))
        log.info("in force", what=self.what, count=len(items))
        try:
            self.write(items)
        except OSError as error:
            log.warning("the snapshot could not be kept on disk", what=self.what, path=str(self._path), reason=str(error))

    def read(self) -> list[T] | None:
        """Those on disk; None when there are none that can be read."""
        try:
            return self.parse(orjson.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            log.error("the snapshot cannot be read", what=self.what, path=str(self._path), reason=str(error))
            return None

    def write(self, items: Sequence[T]) -> None:
        """Replace the file in one step: a crash leaves the old one or the new one. Raises OSError."""
        path = self._path
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            file.write(orjson.dumps([self.render(item) for item in items]))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


async def listen(connection: Connection, table: str) -> None:
    """From now on changes are kept for ``wait_for_change`` on this connection, which must serve nothing else."""
    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(table)))


async def wait_for_change(connection: Connection, timeout: timedelta) -> bool:
    """True as soon as something changed, False after ``timeout``. Changes that came at once count as one."""
    async for _ in connection.notifies(timeout=timeout.total_seconds(), stop_after=1):
        await asyncio.sleep(0)
        return True
    return False
