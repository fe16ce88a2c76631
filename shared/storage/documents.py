"""Tables of named documents in Postgres: pools, tokens, locals, suppressions, pauses, errors. What a document means, its reader knows.

Documents are validated before they come here. Every change notifies the channel of the same name as the table (a trigger); the payload is
a JSON list of the names that changed, or empty: any of them.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Collection as Names
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from psycopg import sql
from psycopg.rows import dict_row

from shared.storage.database import Connection

TIMES = ("created_at", "updated_at")
"""Written here; not part of a document."""
PAGE = 2000
"""Documents that are read or written at once: some milliseconds."""


class Entry(Protocol):
    """A document that its parser has read."""

    @property
    def name(self) -> str:
        """The key of its row."""

    @property
    def document(self) -> Mapping[str, Any]:
        """What its row holds: everything but the name."""


@dataclass(frozen=True, slots=True)
class Collection:
    """What a table of named documents is called and what its documents may say; HTTP and CLI are made from it."""

    table: str
    one: str
    """In words: ``pool``."""
    many: str
    fields: tuple[str, ...]
    """Everything that a document may say, ``name`` first."""
    parse: Callable[[Mapping[str, Any]], Entry]
    """Raises ValueError that begins with the field: ``ips: missing: expected …``."""
    fold: Callable[[str], str] = str
    """A name as its row has it, for those that may be written in several ways. Raises ValueError for what can be no name."""

    def read(self, document: Any) -> Entry:
        """A document from outside; a bare text is a name that says all. Raises ValueError that begins with the field."""
        if isinstance(document, str):
            document = {"name": document}
        if not isinstance(document, Mapping):
            raise ValueError(f"a {self.one}: {document!r:.80}: expected an object with {', '.join(self.fields)}")
        entry = self.parse(document)
        if unknown := set(document) - {*self.fields, *TIMES}:
            raise ValueError(f"{min(unknown)[:80]}: unknown; expected {', '.join(self.fields)}")
        return entry

    def find(self, name: str) -> str:
        """The name to look up: folded when it can be, else as it is (there is none of that name)."""
        try:
            return self.fold(name)
        except ValueError:
            return name

    def show(self, row: Mapping[str, Any], *, with_times: bool = True) -> dict[str, Any]:
        """A row as it is shown: what this version knows of it, in the order of ``fields``."""
        return {key: row[key] for key in (*self.fields, *(TIMES if with_times else ())) if key in row}


async def fetch_documents(connection: Connection, table: str) -> list[dict[str, Any]]:
    """All, by name, each ``{"name": …, **document, "created_at", "updated_at"}``. Raises psycopg's errors (see ``Database.connection``)."""
    return [row async for page in fetch_pages(connection, table) for row in page]


async def fetch_pages(connection: Connection, table: str) -> AsyncIterator[list[dict[str, Any]]]:
    """As ``fetch_documents``, some at a time. What changes meanwhile may or may not be seen."""
    after: str | None = None
    while page := await fetch_page(connection, table, after=after):
        yield page
        if len(page) < PAGE:
            return
        after = page[-1]["name"]


async def fetch_page(connection: Connection, table: str, *, after: str | None = None) -> list[dict[str, Any]]:
    """The next ``PAGE`` documents by name, those ``after`` a name."""
    query = sql.SQL("SELECT name, document, created_at, updated_at FROM {} {} ORDER BY name LIMIT {}").format(
        sql.Identifier(table), sql.SQL("" if after is None else "WHERE name > %s"), sql.Literal(PAGE)
    )
    return await _fetch(connection, query, [] if after is None else [after])


async def fetch_named(connection: Connection, table: str, names: Names[str]) -> list[dict[str, Any]]:
    """Those of them that there are."""
    query = sql.SQL("SELECT name, document, created_at, updated_at FROM {} WHERE name = ANY(%s)").format(sql.Identifier(table))
    return await _fetch(connection, query, [list(names)])


async def fetch_document(connection: Connection, table: str, name: str) -> dict[str, Any] | None:
    """One of them, or None."""
    if "\0" in name:
        return None  # Postgres keeps no NUL, and would refuse the question
    found = await fetch_named(connection, table, [name])
    return found[0] if found else None


async def store_documents(connection: Connection, table: str, documents: Sequence[tuple[str, Mapping[str, Any]]]) -> list[bool]:
    """Add each (name, document), or replace the one of the same name; all or none. True: it is new. The last of a name counts."""
    query = sql.SQL(
        """
        INSERT INTO {} AS known (name, document, created_at, updated_at)
        SELECT given.name, given.document::jsonb, %(now)s, %(now)s
        FROM unnest(%(names)s::text[], %(documents)s::text[]) AS given (name, document)
        ON CONFLICT (name) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at
        RETURNING name, xmax = 0
        """
    ).format(sql.Identifier(table))
    # In the order of names: two that store many at once would else wait for each other.
    given = sorted({name: document for name, document in documents}.items())
    now = int(time.time())
    news: dict[str, bool] = {}
    async with connection.transaction():
        for start in range(0, len(given), PAGE):
            page = given[start : start + PAGE]
            values = [orjson.dumps(document).decode() for _, document in page]
            cursor = await connection.execute(query, {"names": [name for name, _ in page], "documents": values, "now": now})
            news.update({name: bool(is_new) for name, is_new in await cursor.fetchall()})
    return [news[name] for name, _ in documents]


async def delete_document(connection: Connection, table: str, name: str) -> bool:
    """Remove it. False: there was none of this name."""
    if "\0" in name:
        return False
    cursor = await connection.execute(sql.SQL("DELETE FROM {} WHERE name = %s").format(sql.Identifier(table)), [name])
    return cursor.rowcount > 0


async def _fetch(connection: Connection, query: sql.Composed, values: Sequence[Any]) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        return [_flatten(row) for row in await cursor.fetchall()]


def _flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    # A row written by hand may hold anything: whoever parses it says what is wrong with it.
    document = row["document"] if isinstance(row["document"], Mapping) else {"document": row["document"]}
    return {**document, **{key: row[key] for key in ("name", *TIMES)}}
