"""The router's rules in Postgres (``delivery_configurations``). Every change notifies the channel of the same name (a trigger).

A rule is ``{"name": …, "priority": …, "configuration": {"params": {…}, "outbound": ["seal"]}}``, validated before it comes here.
"""

import time
from collections.abc import Mapping
from typing import Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from shared.storage.database import Connection

TABLE = "delivery_configurations"
_ALL = """
    SELECT name, priority, configuration, created_at, updated_at FROM delivery_configurations ORDER BY priority, name
"""
_ONE = "SELECT name, priority, configuration, created_at, updated_at FROM delivery_configurations WHERE name = %s"


async def fetch_rules(connection: Connection) -> list[dict[str, Any]]:
    """All rules, in the order in which they are tried. Raises psycopg's errors (see ``Database.connection``)."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_ALL)
        return await cursor.fetchall()


async def fetch_rule(connection: Connection, name: str) -> dict[str, Any] | None:
    """One rule, or None."""
    if _is_no_name(name):
        return None
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_ONE, [name])
        return await cursor.fetchone()


async def store_rule(connection: Connection, rule: Mapping[str, Any]) -> bool:
    """Add the rule, or replace the one of the same name. True: it is new."""
    now = int(time.time())
    cursor = await connection.execute(
        """
        INSERT INTO delivery_configurations AS c (name, priority, configuration, created_at, updated_at)
        VALUES (%(name)s, %(priority)s, %(configuration)s, %(now)s, %(now)s)
        ON CONFLICT (name) DO UPDATE
        SET priority = excluded.priority, configuration = excluded.configuration, updated_at = excluded.updated_at
        RETURNING xmax = 0
        """,
        {"name": rule["name"], "priority": rule["priority"], "configuration": Jsonb(rule["configuration"]), "now": now},
    )
    row = await cursor.fetchone()
    return bool(row and row[0])


async def delete_rule(connection: Connection, name: str) -> bool:
    """Remove the rule. False: there was none of this name."""
    if _is_no_name(name):
        return False
    cursor = await connection.execute("DELETE FROM delivery_configurations WHERE name = %s", [name])
    return cursor.rowcount > 0


def _is_no_name(text: str) -> bool:
    """Postgres keeps no text with NUL: to ask for one would be an error."""
    return "\0" in text
