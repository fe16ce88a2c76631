"""What the archiver asks of Postgres. Every function is one step, safe beside other archivers and to repeat."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import sql

from shared.storage.database import Connection

MONTHS_AHEAD = 2
_PARTITION_LOCK = 7_310_579_604_012
"""Key of the advisory lock under which partitions are made and dropped."""
_BOUNDS = re.compile(r"FROM \('(-?\d+)'\) TO \('(-?\d+)'\)")

# MATERIALIZED: the rows are picked and locked once, whatever plan is chosen.
_MOVE = """
    WITH picked AS MATERIALIZED (
        SELECT id FROM message_status WHERE updated_at < %(before)s ORDER BY updated_at LIMIT %(most)s
        FOR UPDATE SKIP LOCKED
    ), moved AS (
        DELETE FROM message_status s USING picked WHERE s.id = picked.id
        RETURNING s.id, transaction, recipients_total, message_id, subject, sender, recipient, delivery_strategy, status, state,
                  code, class, destination, results, created_at, updated_at
    )
    INSERT INTO message_status_archive (
        id, transaction, recipients_total, message_id, subject, sender, recipient, delivery_strategy, status, state,
        code, class, destination, results, created_at, updated_at, archived_at
    )
    SELECT moved.*, %(now)s FROM moved
"""

_EXPIRE = """
    WITH picked AS MATERIALIZED (
        SELECT id, archived_at FROM message_status_archive WHERE archived_at < %(before)s LIMIT %(most)s
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM message_status_archive a USING picked WHERE a.id = picked.id AND a.archived_at = picked.archived_at
"""

_PARTITIONS = """
    SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'message_status_archive'::regclass ORDER BY c.relname
"""

_LATE_RETRIES = """
    SELECT count(*) OVER (), id, next_attempt_at FROM delivery_attempts WHERE next_attempt_at < %(before)s
    ORDER BY next_attempt_at LIMIT %(most)s
"""

# Per recipient: the row of a submission does not tell which of them were tried.
_NEVER_TRIED = """
    SELECT count(*) OVER (), r.id, m.next_attempt_at FROM messages m, jsonb_object_keys(m.recipients) AS r (id)
    WHERE m.next_attempt_at < %(before)s
      AND NOT EXISTS (SELECT FROM delivery_attempts d WHERE d.id = r.id)
      AND NOT EXISTS (SELECT FROM message_status s WHERE s.id = r.id)
    ORDER BY m.next_attempt_at LIMIT %(most)s
"""


@dataclass(frozen=True, slots=True)
class Partition:
    """A month of the archive: [start, end) in unix seconds of archiving."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Overdue:
    """Mail that should have been tried by now."""

    count: int
    oldest: int | None
    """When the longest waiting one was due, unix seconds."""
    ids: tuple[str, ...]
    """Some of them, the longest waiting first."""


def parse_month(moment: int, ahead: int = 0) -> Partition:
    """The partition for ``moment`` (unix seconds), or the one so many months later."""
    start = datetime.fromtimestamp(moment, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    months = start.year * 12 + start.month - 1 + ahead
    first, following = (datetime(count // 12, count % 12 + 1, 1, tzinfo=UTC) for count in (months, months + 1))
    return Partition(f"message_status_archive_{first:%Y_%m}", int(first.timestamp()), int(following.timestamp()))


async def fetch_partitions(connection: Connection) -> list[Partition]:
    """The months there are."""
    cursor = await connection.execute(_PARTITIONS)
    found = []
    for name, bounds in await cursor.fetchall():
        match = _BOUNDS.search(bounds)
        if match is not None:
            found.append(Partition(name, int(match[1]), int(match[2])))
    return found


def list_missing(partitions: Sequence[Partition], now: int) -> list[Partition]:
    """The months that must still be made: this one and the next two."""
    wanted = [parse_month(now, ahead) for ahead in range(MONTHS_AHEAD + 1)]
    return [month for month in wanted if not any(p.start <= month.start < p.end for p in partitions)]


async def create_partitions(connection: Connection, now: int) -> list[str]:
    """Make the months that are missing; their names."""
    if not list_missing(await fetch_partitions(connection), now):
        return []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_PARTITION_LOCK])
        missing = list_missing(await fetch_partitions(connection), now)
        for month in missing:
            statement = sql.SQL("CREATE TABLE {} PARTITION OF message_status_archive FOR VALUES FROM ({}) TO ({})")
            await connection.execute(statement.format(sql.Identifier(month.name), month.start, month.end))
    return [month.name for month in missing]


async def drop_partition(connection: Connection, partition: Partition) -> int:
    """Drop a whole month; how many rows it had. Readers are not kept waiting for more than five seconds."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_PARTITION_LOCK])
        await connection.execute("SET LOCAL lock_timeout = '5s'")
        if partition not in await fetch_partitions(connection):
            return 0
        count = await count_partition(connection, partition)
        await connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(partition.name)))
    return count


async def count_partition(connection: Connection, partition: Partition) -> int:
    """Rows in a month."""
    return await _count(connection, sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(partition.name)))


async def move_batch(connection: Connection, *, before: int, now: int, most: int) -> int:
    """Move at most ``most`` verdicts last changed before ``before`` into the archive, in one statement; how many were moved."""
    return (await connection.execute(_MOVE, {"before": before, "now": now, "most": most})).rowcount


async def expire_batch(connection: Connection, *, before: int, most: int) -> int:
    """Delete at most ``most`` rows archived before ``before``; how many were deleted."""
    return (await connection.execute(_EXPIRE, {"before": before, "most": most})).rowcount


async def count_movable(connection: Connection, before: int) -> int:
    """How many verdicts ``move_batch`` would move in all."""
    return await _count(connection, "SELECT count(*) FROM message_status WHERE updated_at < %s", before)


async def count_expired(connection: Connection, before: int) -> int:
    """How many archived rows are past their retention."""
    return await _count(connection, "SELECT count(*) FROM message_status_archive WHERE archived_at < %s", before)


async def find_orphans(connection: Connection, keys: Sequence[str]) -> list[str]:
    """Those of ``keys`` that no mail under way names and nobody wants kept."""
    cursor = await connection.execute(
        """
        SELECT key FROM unnest(%s::text[]) AS key
        WHERE NOT EXISTS (SELECT FROM messages WHERE datafile = key)
          AND NOT EXISTS (SELECT FROM kept_payloads WHERE datafile = key)
        """,
        [list(keys)],
    )
    orphans = [row[0] for row in await cursor.fetchall()]
    if not orphans:
        return []
    # A sender may have stored the content of one recipient alone. No index: few keys come this far.
    cursor = await connection.execute(
        """
        SELECT DISTINCT r ->> 'datafile' FROM messages, jsonb_path_query(recipients, '$.*') r
        WHERE r ->> 'datafile' = ANY (%s)
        """,
        [orphans],
    )
    named = {row[0] for row in await cursor.fetchall()}
    return [key for key in orphans if key not in named]


async def find_overdue(connection: Connection, before: int, *, most: int = 10) -> Overdue:
    """Mail whose next (or first) attempt was due before ``before``."""
    late: list[tuple[int, str]] = []
    count = 0
    for query in (_LATE_RETRIES, _NEVER_TRIED):
        cursor = await connection.execute(query, {"before": before, "most": most})
        rows = await cursor.fetchall()
        count += rows[0][0] if rows else 0
        late += [(due, ident) for _, ident, due in rows]
    late.sort()
    return Overdue(count, late[0][0] if late else None, tuple(ident for _, ident in late[:most]))


async def _count(connection: Connection, query: "str | sql.Composed", *values: int) -> int:
    cursor = await connection.execute(query.encode() if isinstance(query, str) else query, values)
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
