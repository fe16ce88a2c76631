"""Pools of source addresses in Postgres (``pools``). Every change notifies the channel of the same name (a trigger).

A pool is ``{"name": …, "ips": […], "helo": …}``, validated (``shared.delivery.pools``) before it comes here.
"""

import time
from collections.abc import Mapping
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from shared.storage.database import Connection

TABLE = "pools"
_ALL = "SELECT name, document, created_at, updated_at FROM pools ORDER BY name"
_ONE = "SELECT name, document, created_at, updated_at FROM pools WHERE name = %s"


async def fetch_pools(connection: Connection) -> list[dict[str, Any]]:
    """All pools, by name, each with its times. Raises psycopg's errors (see ``Database.connection``)."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_ALL)
        return [_flatten(row) for row in await cursor.fetchall()]


async def fetch_pool(connection: Connection, name: str) -> dict[str, Any] | None:
    """One pool, or None."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_ONE, [name])
        row = await cursor.fetchone()
        return None if row is None else _flatten(row)


async def store_pool(connection: Connection, name: str, document: Mapping[str, Any]) -> bool:
    """Add the pool, or replace the one of the same name. True: it is new."""
    now = int(time.time())
    cursor = await connection.execute(
        """
        INSERT INTO pools AS p (name, document, created_at, updated_at)
        VALUES (%(name)s, %(document)s, %(now)s, %(now)s)
        ON CONFLICT (name) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at
        RETURNING xmax = 0
        """,
        {"name": name, "document": Jsonb(dict(document)), "now": now},
    )
    row = await cursor.fetchone()
    return bool(row and row[0])


async def delete_pool(connection: Connection, name: str) -> bool:
    """Remove the pool. False: there was none of this name."""
    cursor = await connection.execute("DELETE FROM pools WHERE name = %s", [name])
    return cursor.rowcount > 0


def _flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    # A row written by hand may hold anything: whoever parses it says what is wrong with it.
    document = row["document"] if isinstance(row["document"], Mapping) else {"ips": row["document"]}
    return {**document, **{key: row[key] for key in ("name", "created_at", "updated_at")}}
