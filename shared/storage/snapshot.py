"""Tables as this process last saw them: in memory, refreshed when Postgres notifies a change and now and then, kept on disk.

With Postgres down the process goes on with what it has. One that has never seen a table must hold what needs it rather than guess.
One connection follows all tables of a process (``Follower``).
"""

import asyncio
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
from prometheus_client import Gauge
from psycopg import Notify, sql

from shared.log import get_logger
from shared.storage.database import NOT_MIGRATED, Connection, DatabaseSettings, connect, translating
from shared.trouble import Unavailable

log = get_logger()

FETCH_TIMEOUT = 10.0
"""Seconds: a frozen Postgres does not obey its own statement timeout."""
RETRY_PAUSE = 2.0
"""Seconds between two tries to reach Postgres."""
SHARE = 5
"""A reading may take one part in so many of the time: a few rules are read again at once, a long table less often."""
BETWEEN = 1.0
"""Seconds between two readings, at most."""
MOST_NAMES = 1000
"""Changes that are read one by one; of more than that all is read."""

T = TypeVar("T")


class Followed(ABC):
    """What a ``Follower`` keeps fresh."""

    what: str
    """The items in words, for logs: ``rules``."""
    table: str
    """Also the channel on which its changes are notified."""
    fresh: Gauge
    """Shows 1 while they follow Postgres."""
    is_fresh = False
    """Do they follow Postgres, as far as can be told?"""

    def tell_fresh(self, is_fresh: bool) -> None:
        """Note that they follow Postgres, or that the last snapshot is used."""
        self.is_fresh = is_fresh
        self.fresh.set(is_fresh)

    @property
    @abstractmethod
    def is_known(self) -> bool:
        """Were they ever seen?"""

    @abstractmethod
    async def update(self, connection: Connection, names: Set[str] | None) -> None:
        """Read those of these ``names`` again, or all. Raises psycopg's errors and TimeoutError."""

    async def refresh(self, connection: Connection) -> None:
        """Read what may have changed without a notice. Raises psycopg's errors and TimeoutError."""
        await self.update(connection, None)

    @abstractmethod
    def restore(self) -> None:
        """Take those on disk, when there are any that can be read."""


class Snapshot(Followed, Generic[T]):
    """The items of a table, parsed, all or none: a subclass says which."""

    count: Gauge
    """Shows how many items are in force."""

    def __init__(self, path: Path) -> None:
        """``path``: the copy on disk."""
        self._path = path
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
    def is_known(self) -> bool:
        """Were they ever seen?"""
        return self._items is not None

    @property
    def items(self) -> list[T]:
        """Those in force; another list as soon as they change. Raises Unavailable when none were ever seen."""
        if self._items is None:
            raise never_seen(self.what)
        return self._items

    async def update(self, connection: Connection, names: Set[str] | None) -> None:
        """Read all of them: they are few, and count all or none."""
        async with asyncio.timeout(FETCH_TIMEOUT):
            rows = await self.fetch(connection)
        self.take(rows)

    def restore(self) -> None:
        """Take those on disk, when there are any that can be read."""
        self._items = self.read()
        self.count.set(len(self._items or ()))

    def take(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """These are in force from now on, unless one of them cannot be read."""
        try:
            items = self.parse(rows)
        except ValueError as error:
            # Without the one that cannot be read, mail would go another way than somebody asked for.
            self.tell_fresh(False)
            log.error("one of them cannot be read: going on with the last snapshot", what=self.what, reason=str(error))
            return
        self.tell_fresh(True)
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
        """Replace the file in one step. Raises OSError."""
        replace_file(self._path, [orjson.dumps([self.render(item) for item in items])])


class Follower:
    """Keeps several tables fresh on one connection."""

    def __init__(self, settings: DatabaseSettings, followed: Sequence[Followed], *, name: str, refresh: timedelta) -> None:
        """``name``: the process. ``refresh``: read again after so long without a notice."""
        self._settings = settings
        self._followed = followed
        self._name = name
        self._refresh = refresh.total_seconds()

    async def load(self) -> None:
        """The first ones: from Postgres, else from disk, else none yet."""
        if not self._followed:
            return
        try:
            connection = await connect(self._settings, name=self._name)
            async with translating(), connection:
                await self._update(connection, dict.fromkeys(self._followed))
        except Unavailable as error:
            log.warning("starting with the last snapshot", what=self._what, reason=str(error))
        for one in self._followed:
            if not one.is_known:
                one.restore()

    async def follow(self) -> None:
        """Keep them fresh, for ever; without any table there is nothing to do, and this returns."""
        while self._followed:
            try:
                await self._follow_once()
            except (Unavailable, OSError) as error:
                for one in self._followed:
                    one.tell_fresh(False)
                log.warning("going on with the last snapshot", what=self._what, reason=str(error))
            await asyncio.sleep(RETRY_PAUSE)

    async def _follow_once(self) -> None:
        connection = await connect(self._settings, name=self._name)
        async with translating(), connection:
            for one in self._followed:
                await listen(connection, one.table)
            due: dict[Followed, Set[str] | None] = dict.fromkeys(self._followed)
            refreshed = time.monotonic()
            between = 0.0
            is_first = True
            while True:
                begun = time.monotonic()
                missing = await self._update(connection, due)
                # The first reading is of all, and nobody has changed anything yet.
                between = 0.0 if is_first else min(BETWEEN, SHARE * (time.monotonic() - begun))
                is_first = False
                due = dict.fromkeys(missing)
                left = refreshed + self._refresh - time.monotonic()
                notices = await wait_for_change(connection, timedelta(seconds=min(left, RETRY_PAUSE) if missing else left))
                if notices and (pause := begun + between - time.monotonic()) > 0:
                    # What comes on the heels of it is read in one go.
                    await asyncio.sleep(pause)
                    notices += await wait_for_change(connection, timedelta(0))
                due = self._merge(due, notices)
                if time.monotonic() >= refreshed + self._refresh:
                    refreshed = time.monotonic()
                    for one in self._followed:
                        if one not in due:
                            await one.refresh(connection)

    async def _update(self, connection: Connection, due: Mapping[Followed, Set[str] | None]) -> list[Followed]:
        """Read what is ``due``; those whose table is not there. The tables that are do not suffer for it."""
        missing = []
        for one, names in due.items():
            try:
                await one.update(connection, names)
            except NOT_MIGRATED as error:
                one.tell_fresh(False)
                reason = f"Postgres: {str(error).splitlines()[0]} (has `mailwarren migrate` been run?)"
                log.warning("going on with the last snapshot", what=one.what, reason=reason)
                missing.append(one)
        return missing

    def _merge(self, due: Mapping[Followed, Set[str] | None], notices: Iterable[Notify]) -> dict[Followed, Set[str] | None]:
        """What is to be read now: all of what was ``due`` already, and what the ``notices`` name."""
        merged = dict(due)
        for one in self._followed:
            for notice in notices:
                if notice.channel == one.table:
                    merged[one] = join_names(merged.get(one, frozenset()), parse_names(notice.payload))
        return merged

    @property
    def _what(self) -> str:
        return ", ".join(one.what for one in self._followed)


def never_seen(what: str) -> Unavailable:
    """What is raised when something depends on a table that was never seen."""
    return Unavailable(f"the {what} were never seen: Postgres is out of reach and there is no snapshot on disk")


def parse_names(payload: str) -> Set[str] | None:
    """The names that a notice says have changed; None: it does not say."""
    try:
        names = orjson.loads(payload) if payload else None
    except orjson.JSONDecodeError:
        return None
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else None


def join_names(one: Set[str] | None, other: Set[str] | None) -> Set[str] | None:
    """Both; None (all) when either is, or they are too many to be read one by one."""
    if one is None or other is None or len(one) + len(other) > MOST_NAMES:
        return None
    return one | other


def replace_file(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file in one step: a crash leaves the old one or the new one. Nobody else may read it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        # Rules may hold the passwords of smarthosts; a file that a crash left keeps the mode that it had.
        os.fchmod(handle, 0o600)
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


async def listen(connection: Connection, table: str) -> None:
    """From now on changes are kept for ``wait_for_change`` on this connection, which must serve nothing else."""
    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(table)))


async def wait_for_change(connection: Connection, timeout: timedelta) -> list[Notify]:
    """The notices of changes as soon as there are any; none after ``timeout``."""
    return [notice async for notice in connection.notifies(timeout=max(0.0, timeout.total_seconds()), stop_after=1)]
