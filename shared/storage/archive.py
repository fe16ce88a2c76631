"""What the archiver asks of Postgres. Every function is one step, safe beside other archivers and to repeat."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import errors, sql

from shared.storage.accepted_at import has_accepted_at
from shared.storage.database import Connection
from shared.trouble import Unavailable

MONTHS_AHEAD = 2
_PARTITION_LOCK = 7_310_579_604_012
"""Key of the advisory lock under which partitions are made and dropped."""
_COUNTABLE = 1_000_000
OVERDUE_ENOUGH = 10_000
"""Overdue mail is counted up to this: a backlog of millions must not cost seconds each minute."""
_BOUNDS = re.compile(r"FROM \('(-?\d+)'\) TO \('(-?\d+)'\)")

# A submission is complete when all its verdicts are in ``message_status``: none goes while others of its recipients are under way.
# Not EXISTS: that could be answered by reading all of ``messages`` first. So it is one look at its key, and none for a mail of its own.
_IS_MOVABLE = sql.SQL(
    "(s.recipients_total <= 1 OR (SELECT m.transaction FROM messages m WHERE m.transaction = s.transaction) IS NULL)"
)

# By ctid, of rows that this very statement has locked: nobody can move them in between, and no index is looked at twice. ``after``
# leaves out what earlier batches have taken: while some old transaction (a dump) is open, its index entries stay and would be
# walked again by every batch.
_MOVE = """
    WITH moved AS (
        DELETE FROM message_status WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM message_status s WHERE updated_at < %(before)s AND updated_at >= %(after)s AND {movable}
            ORDER BY updated_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
        ))
        RETURNING id, transaction, recipients_total, message_id, subject, sender, recipient, delivery_strategy, status, state,
                  code, class, destination, results, created_at, updated_at{accepted_at}
    ), put AS (
        INSERT INTO message_status_archive (
            id, transaction, recipients_total, message_id, subject, sender, recipient, delivery_strategy, status, state,
            code, class, destination, results, created_at, updated_at{accepted_at}, archived_at
        )
        SELECT moved.*, %(now)s FROM moved RETURNING updated_at
    )
    SELECT count(*), max(updated_at) FROM put
"""

# In one month: a ctid means something in one table only.
_EXPIRE = """
    DELETE FROM {month} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {month} WHERE archived_at < %(before)s AND archived_at >= %(since)s LIMIT %(most)s FOR UPDATE SKIP LOCKED
    ))
"""

# Keys are named by the mail: they end in its transaction, or, where a sender has stored the content of one recipient alone, in its id.
# Not by what the entries of ``recipients`` name: a recipient's own payload is named there only after its first attempt.
_ORPHANS = """
    SELECT key FROM unnest(%s::text[]) AS key
    WHERE NOT EXISTS (SELECT FROM messages WHERE datafile = key)
      AND NOT EXISTS (SELECT FROM messages WHERE transaction = split_part(key, '/', 5))
      AND NOT EXISTS (SELECT FROM messages WHERE ids @> ARRAY[split_part(key, '/', 5)])
      AND NOT EXISTS (SELECT FROM kept_payloads WHERE datafile = key)
"""

_PARTITIONS = """
    SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'message_status_archive'::regclass ORDER BY c.relname
"""

# Both walk an index from the longest overdue on and stop at ``enough``.
_LATE_RETRIES = """
    SELECT id, next_attempt_at FROM delivery_attempts WHERE next_attempt_at < %(before)s
    ORDER BY next_attempt_at LIMIT %(enough)s
"""

# Per recipient: the row of a submission does not tell which of them were tried. Unless there is one only: then its status does, and the
# condition is that of the index messages_untried_idx, so that no mail that waits for a later attempt is looked at.
NEVER_TRIED = """
    SELECT r.id, m.next_attempt_at FROM messages m, jsonb_object_keys(m.recipients) AS r (id)
    WHERE m.next_attempt_at < %(before)s AND (m.status IN ('accepted', 'routed') OR m.recipients_total > 1)
      AND (SELECT d.id FROM delivery_attempts d WHERE d.id = r.id LIMIT 1) IS NULL
      AND (SELECT s.id FROM message_status s WHERE s.id = r.id) IS NULL
    ORDER BY m.next_attempt_at LIMIT %(enough)s
"""


@dataclass(frozen=True, slots=True)
class Partition:
    """A month of the archive: [start, end) in unix seconds of archiving."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Moved:
    """What one batch has moved."""

    count: int
    newest: int | None
    """Last change of the youngest of them, unix seconds; None: none was moved."""


@dataclass(frozen=True, slots=True)
class Overdue:
    """Mail that should have been tried by now."""

    count: int
    """At most OVERDUE_ENOUGH: then there are at least so many."""
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
    """Make the months that are missing; their names. Waits for no reader and lets none wait.

    Raises Unavailable when a table of that name is there and is no month of the archive: somebody has taken it out by hand.
    """
    if not list_missing(await fetch_partitions(connection), now):
        return []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_PARTITION_LOCK])
        missing = list_missing(await fetch_partitions(connection), now)
        for month in missing:
            await _create_partition(connection, month)
    return [month.name for month in missing]


async def _create_partition(connection: Connection, month: Partition) -> None:
    name = sql.Identifier(month.name)
    try:
        # In two steps: CREATE TABLE … PARTITION OF would lock out everybody who reads the archive, and wait for them.
        await connection.execute(
            sql.SQL("CREATE TABLE {} (LIKE message_status_archive INCLUDING ALL EXCLUDING INDEXES)").format(name)
        )
    except errors.DuplicateTable:
        reason = f"Postgres: table {month.name} is there and is no partition of message_status_archive: attach or rename it"
        raise Unavailable(reason) from None
    statement = sql.SQL("ALTER TABLE message_status_archive ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})")
    await connection.execute(statement.format(name, month.start, month.end))


async def drop_partition(connection: Connection, partition: Partition) -> int | None:
    """Drop a whole month; how many rows it had, 0 when another archiver was faster. None: somebody reads the archive, try later.

    Whoever wants to read the archive meanwhile waits for a second at most.
    """
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_PARTITION_LOCK])
            if partition not in await fetch_partitions(connection):
                return 0
            count = await count_partition(connection, partition)
            await connection.execute("SET LOCAL lock_timeout = '1s'")
            await connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(partition.name)))
        return count
    except errors.LockNotAvailable:
        return None


async def count_partition(connection: Connection, partition: Partition) -> int:
    """Rows in a month. Of a large one the planner's estimate: counting would take longer than a statement may."""
    query = "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(%s)"
    row = await (await connection.execute(query, [partition.name])).fetchone()
    if row is not None and row[0] > _COUNTABLE:
        return int(row[0])
    return await _count(connection, sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(partition.name)))


async def move_batch(connection: Connection, *, before: int, now: int, most: int, after: int = 0) -> Moved:
    """Move at most ``most`` verdicts last changed in [after, before) into the archive, the oldest first, in one statement.

    A verdict that somebody else holds is passed over.
    """
    column = sql.SQL(", accepted_at" if await has_accepted_at(connection) else "")
    move = sql.SQL(_MOVE).format(movable=_IS_MOVABLE, accepted_at=column)
    cursor = await connection.execute(move, {"before": before, "after": after, "now": now, "most": most})
    row = await cursor.fetchone()
    return Moved(*row) if row else Moved(0, None)


async def expire_batch(connection: Connection, month: Partition, *, before: int, most: int, since: int = 0) -> int:
    """Delete at most ``most`` rows of a month archived in [since, before); how many were deleted. 0 when the month is gone."""
    query = sql.SQL(_EXPIRE).format(month=sql.Identifier(month.name))
    try:
        return (await connection.execute(query, {"before": before, "since": since, "most": most})).rowcount
    except errors.UndefinedTable:
        return 0


async def count_movable(connection: Connection, before: int) -> int:
    """How many verdicts ``move_batch`` would move in all."""
    query = sql.SQL("SELECT count(*) FROM message_status s WHERE updated_at < %s AND {}").format(_IS_MOVABLE)
    return await _count(connection, query, before)


async def count_expired(connection: Connection, before: int) -> int:
    """How many archived rows are past their retention."""
    return await _count(connection, "SELECT count(*) FROM message_status_archive WHERE archived_at < %s", before)


async def find_oldest(connection: Connection) -> int | None:
    """When the verdict that was left alone for longest was last changed, of those that may be moved, unix seconds; None: there is none."""
    query = sql.SQL("SELECT updated_at FROM message_status s WHERE {} ORDER BY updated_at LIMIT 1").format(_IS_MOVABLE)
    row = await (await connection.execute(query)).fetchone()
    return None if row is None else row[0]


async def fetch_clock(connection: Connection) -> float:
    """Postgres's clock, unix seconds."""
    row = await (await connection.execute("SELECT extract(epoch FROM clock_timestamp())::double precision")).fetchone()
    return float(row[0]) if row else 0.0


async def find_orphans(connection: Connection, keys: Sequence[str]) -> list[str]:
    """Those of ``keys`` (ours, ``v1/yyyy/mm/dd/NAME``) that belong to no mail under way and nobody wants kept."""
    cursor = await connection.execute(_ORPHANS, [list(keys)])
    return [row[0] for row in await cursor.fetchall()]


async def find_overdue(connection: Connection, before: int, *, most: int = 10) -> Overdue:
    """Mail whose next (or first) attempt was due before ``before``."""
    late: list[tuple[int, str]] = []
    for query in (_LATE_RETRIES, NEVER_TRIED):
        cursor = await connection.execute(query, {"before": before, "enough": OVERDUE_ENOUGH})
        late += [(due, ident) for ident, due in await cursor.fetchall()]
    late.sort()
    return Overdue(min(len(late), OVERDUE_ENOUGH), late[0][0] if late else None, tuple(ident for _, ident in late[:most]))


async def _count(connection: Connection, query: "str | sql.Composed", *values: int) -> int:
    cursor = await connection.execute(query.encode() if isinstance(query, str) else query, values)
    row = await cursor.fetchone()
    return int(row[0]) if row else 0
