"""Tables of named documents in Postgres: pools, tokens, locals, suppressions, pauses, errors. What a document means, its reader knows.

Documents are validated before they come here. Every change notifies the channel of the same name as the table (a trigger).
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from shared.storage.database import Connection

TIMES = ("created_at", "updated_at")
"""Written here; not part of a document."""


async def fetch_documents(connection: Connection, table: str) -> list[dict[str, Any]]:
    """All, by name, each ``{"name": …, **document, "created_at", "updated_at"}``. Raises psycopg's errors (see ``Database.connection``)."""
    query = sql.SQL("SELECT name, document, created_at, updated_at FROM {} ORDER BY name").format(sql.Identifier(table))
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query)
        return [_flatten(row) for row in await cursor.fetchall()]


async def fetch_document(connection: Connection, table: str, name: str) -> dict[str, Any] | None:
    """One of them, or None."""
    query = sql.SQL("SELECT name, document, created_at, updated_at FROM {} WHERE name = %s").format(sql.Identifier(table))
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query, [name])
        row = await cursor.fetchone()
        return None if row is None else _flatten(row)


async def store_documents(connection: Connection, table: str, documents: Sequence[tuple[str, Mapping[str, Any]]]) -> list[bool]:
    """Add each (name, document), or replace the one of the same name; all or none. True: it is new."""
    query = sql.SQL(
        """
        INSERT INTO {} AS known (name, document, created_at, updated_at)
        VALUES (%(name)s, %(document)s, %(now)s, %(now)s)
        ON CONFLICT (name) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at
        RETURNING xmax = 0
        """
    ).format(sql.Identifier(table))
    now = int(time.time())
    news = []
    async with connection.transaction():
        for name, document in documents:
            cursor = await connection.execute(query, {"name": name, "document": Jsonb(dict(document)), "now": now})
            row = await cursor.fetchone()
            news.append(bool(row and row[0]))
    return news


async def delete_document(connection: Connection, table: str, name: str) -> bool:
    """Remove it. False: there was none of this name."""
    cursor = await connection.execute(sql.SQL("DELETE FROM {} WHERE name = %s").format(sql.Identifier(table)), [name])
    return cursor.rowcount > 0


def _flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    # A row written by hand may hold anything: whoever parses it says what is wrong with it.
    document = row["document"] if isinstance(row["document"], Mapping) else {"document": row["document"]}
    return {**document, **{key: row[key] for key in ("name", *TIMES)}}
