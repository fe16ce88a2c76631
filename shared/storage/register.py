"""A table of named documents that may hold millions, as this process last saw it: changes are read one by one, in memory lies only what
is looked up, and the copy on disk follows by and by. Each entry stands alone: one that cannot be read does not keep the others out.
"""

import asyncio
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
from prometheus_client import Gauge
from psycopg import sql

from shared.log import get_logger
from shared.storage.database import Connection
from shared.storage.snapshot import FETCH_TIMEOUT, Followed, never_seen, replace_file

log = get_logger()

PAGE = 5000
"""Rows read at once: some 10 ms."""
FEW = 10_000
"""Up to so many are written to disk at every change."""
WRITE_EVERY = 60.0
"""Seconds between two writings of more than that."""

V = TypeVar("V")
Row = tuple[Any, ...]


class Register(Followed, Generic[V]):
    """Name → value. A subclass says what a value is."""

    columns: Sequence[str]
    """Of a document, what makes its value: read as text."""
    count: Gauge
    """Shows how many entries there are."""

    def __init__(self, path: Path) -> None:
        """``path``: the copy on disk, a JSON object a line."""
        self._path = path
        self._items: dict[str, V] | None = None
        self._unread: set[str] = set()
        """Names of rows that cannot be read."""
        self._newest = 0
        """The latest ``updated_at`` that was seen."""
        self._written: float | None = None
        """When the copy on disk was last as it should be; None: never."""
        self._is_dirty = False

    @abstractmethod
    def parse(self, name: str, *values: str | None) -> V:
        """The value of a row, from its ``columns``. Raises ValueError."""

    @abstractmethod
    def render(self, value: V) -> Mapping[str, Any]:
        """A value as it is kept on disk, by column."""

    @property
    def is_known(self) -> bool:
        """Was it ever seen?"""
        return self._items is not None

    @property
    def items(self) -> Mapping[str, V]:
        """Those in force; changes in place. Raises Unavailable when it was never seen."""
        if self._items is None:
            raise never_seen(self.what)
        return self._items

    async def update(self, connection: Connection, names: Set[str] | None) -> None:
        """Read these again, or all. Raises psycopg's errors and TimeoutError."""
        if names is None or self._items is None:
            await self._read_all(connection)
        elif names:
            await self._read_some(connection, self._items, names)
        self._show()
        await self._keep()

    async def refresh(self, connection: Connection) -> None:
        """Read all again if number or newest time of the rows are not as they should be."""
        query = sql.SQL("SELECT count(*), coalesce(max(updated_at), 0) FROM {}").format(sql.Identifier(self.table))
        [found] = await self._fetch(connection, query, [])
        if self._items is None or found != (len(self._items) + len(self._unread), self._newest):
            await self.update(connection, None)
            return
        self._show()
        await self._keep()

    def restore(self) -> None:
        """Take those on disk, when there are any."""
        items: dict[str, V] = {}
        try:
            with self._path.open("rb") as file:
                for line in file:
                    document = orjson.loads(line)
                    name = document["name"]
                    items[name] = self.parse(name, *(document.get(column) for column in self.columns))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("the snapshot cannot be read", what=self.what, path=str(self._path), reason=str(error))
            return
        self._items = items
        self.count.set(len(items))

    async def _read_all(self, connection: Connection) -> None:
        items: dict[str, V] = {}
        unread: set[str] = set()
        known, newest, after = self._items, 0, None
        is_same = known is not None
        while rows := await self._fetch(connection, *self._select("name > %s", after)):
            newest = max(newest, self._take(rows, items, unread))
            is_same = is_same and known is not None and all(known.get(row[0]) == items.get(row[0]) for row in rows)
            after = rows[-1][0]
            if len(rows) < PAGE:
                break
        self._unread, self._newest = unread, newest
        if known is not None and is_same and len(known) == len(items):
            await _release(items)
            return
        self._items, self._is_dirty = items, True
        log.info("in force", what=self.what, count=len(items))
        await _release(known or {})

    async def _read_some(self, connection: Connection, items: dict[str, V], names: Set[str]) -> None:
        rows = await self._fetch(connection, *self._select("name = ANY(%s)", list(names)))
        there = {row[0] for row in rows}
        for name in names - there:
            items.pop(name, None)
            self._unread.discard(name)
        self._newest = max(self._newest, self._take(rows, items, self._unread))
        self._is_dirty = True

    def _take(self, rows: Sequence[Row], items: dict[str, V], unread: set[str]) -> int:
        """The latest time among the ``rows``."""
        newest = 0
        for name, updated, *values in rows:
            newest = max(newest, updated)
            try:
                items[name] = self.parse(name, *values)
            except ValueError as error:
                items.pop(name, None)
                unread.add(name)
                log.error("one of them cannot be read and does not count", what=self.what, name=name[:330], reason=str(error))
            else:
                unread.discard(name)
        return newest

    def _select(self, condition: str, value: Any) -> tuple[sql.Composed, list[Any]]:
        columns = [sql.SQL("document->>{}").format(sql.Literal(column)) for column in self.columns]
        where = sql.SQL("" if value is None else f"WHERE {condition}")
        query = sql.SQL("SELECT name, updated_at, {} FROM {} {} ORDER BY name LIMIT {}").format(
            sql.SQL(", ").join(columns), sql.Identifier(self.table), where, sql.Literal(PAGE)
        )
        return query, [] if value is None else [value]

    async def _fetch(self, connection: Connection, query: sql.Composed, values: Sequence[Any]) -> list[Row]:
        async with asyncio.timeout(FETCH_TIMEOUT):
            cursor = await connection.execute(query, values)
            return await cursor.fetchall()

    def _show(self) -> None:
        self.tell_fresh(True)
        self.count.set(len(self._items or ()))

    async def _keep(self) -> None:
        """Bring the copy on disk up to date, unless it is long and was written a moment ago."""
        items = self._items
        if items is None or not self._is_dirty:
            return
        if len(items) > FEW and self._written is not None and time.monotonic() - self._written < WRITE_EVERY:
            return
        try:
            # Beside the loop: a million lines take seconds. Nobody changes the entries meanwhile but whoever waits here.
            await asyncio.to_thread(replace_file, self._path, self._render_lines(items))
        except OSError as error:
            log.warning("the snapshot could not be kept on disk", what=self.what, path=str(self._path), reason=str(error))
        else:
            self._written, self._is_dirty = time.monotonic(), False

    def _render_lines(self, items: Mapping[str, V]) -> Iterator[bytes]:
        for name, value in items.items():
            yield orjson.dumps({"name": name, **self.render(value)}, option=orjson.OPT_APPEND_NEWLINE)


async def _release(items: dict[str, Any]) -> None:
    """Free what nobody reads any more by and by: a million at once would stop everything for a while."""
    while items:
        for _ in range(min(PAGE, len(items))):
            items.popitem()
        await asyncio.sleep(0)
