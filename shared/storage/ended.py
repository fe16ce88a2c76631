"""What has had its time: suppressions, pauses and forced errors whose ``expires`` is past, old answers to repeated requests.

Nobody obeys them any more; the archiver takes them away.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from psycopg import sql

from shared.storage.database import Connection
from shared.storage.idempotency import LIFETIME
from shared.wire.times import render_time

TABLES = ("suppressions", "pauses", "errors")
_FORM = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$"

# Compared as text, which sorts as the times do. A row written by hand may say anything: what is no time of ours has not ended.
_ENDED = "document ->> 'expires' ~ %(form)s AND document ->> 'expires' <= %(now)s"
_FIND = f"SELECT name FROM {{}} WHERE {_ENDED} ORDER BY name LIMIT %(most)s"  # noqa: S608 - fixed text
_COUNT = f"SELECT count(*) FROM {{}} WHERE {_ENDED}"  # noqa: S608 - fixed text
# Asked again: somebody may have prolonged one in the meantime.
_DELETE = f"DELETE FROM {{}} WHERE name = ANY (%(names)s) AND {_ENDED}"  # noqa: S608 - fixed text


async def find_ended(connection: Connection, table: str, *, now: int, most: int) -> list[str]:
    """Names of entries that have ended by ``now`` (unix seconds), at most ``most``."""
    cursor = await connection.execute(sql.SQL(_FIND).format(sql.Identifier(table)), _values(now) | {"most": most})
    return [row[0] for row in await cursor.fetchall()]


async def count_ended(connection: Connection, table: str, *, now: int) -> int:
    """How many there are."""
    cursor = await connection.execute(sql.SQL(_COUNT).format(sql.Identifier(table)), _values(now))
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def delete_ended(connection: Connection, table: str, names: Sequence[str], *, now: int) -> int:
    """Delete those of ``names`` that have ended; how many. Up to 100 at once are told to the processes by name."""
    cursor = await connection.execute(sql.SQL(_DELETE).format(sql.Identifier(table)), _values(now) | {"names": list(names)})
    return cursor.rowcount


async def count_old_requests(connection: Connection, *, now: int) -> int:
    """How many answers ``shared.storage.idempotency.sweep_requests`` would remove in all."""
    query = "SELECT count(*) FROM idempotent_requests WHERE created_at < %s"
    row = await (await connection.execute(query, [now - int(LIFETIME.total_seconds())])).fetchone()
    return int(row[0]) if row else 0


def _values(now: int) -> dict[str, object]:
    return {"form": _FORM, "now": render_time(datetime.fromtimestamp(now, UTC))}
