"""Since when the recorder has kept up without a break (``recorder_progress``): the recorder writes it, the sweep of payloads trusts it."""

from dataclasses import dataclass

from shared.storage.database import Connection

GAP = 600
"""Seconds. To be silent, or behind, for longer is a break; a restart or an upgrade is none."""

_NOTE = """
    INSERT INTO recorder_progress AS p (queue, caught_up_since, created_at, updated_at)
    VALUES (%(queue)s, CASE WHEN %(caught_up)s THEN %(now)s::bigint END, %(now)s, %(until)s)
    ON CONFLICT (queue) DO UPDATE SET updated_at = excluded.updated_at, caught_up_since = CASE
        WHEN NOT %(caught_up)s THEN NULL
        WHEN p.caught_up_since IS NULL OR abs(p.updated_at - %(now)s) > %(gap)s OR p.caught_up_since > %(now)s THEN %(now)s
        ELSE p.caught_up_since
    END
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the recorders last said. Unix seconds."""

    caught_up_since: int | None
    """None: behind, or nothing was ever said."""
    recorded_until: int
    """Everything published before was recorded; 0: nothing was ever said."""


async def note_progress(connection: Connection, queue: str, *, caught_up: bool, now: int, until: int | None = None) -> None:
    """A sign of life: all that was published before ``until`` (None: ``now``) has been recorded.

    Not ``caught_up``, what was said last being older than GAP, or a step of the clock: ``caught_up_since`` starts anew, and at ``now``.
    """
    values = {"queue": queue, "caught_up": caught_up, "now": now, "until": now if until is None else until, "gap": GAP}
    await connection.execute(_NOTE, values)


async def note_break(connection: Connection, now: int) -> None:
    """A record is lost to Postgres (parked): what it told is not known here, so nothing can be concluded from its absence."""
    await connection.execute("UPDATE recorder_progress SET caught_up_since = NULL, updated_at = %s", [now])


async def fetch_progress(connection: Connection) -> Progress:
    """The least favourable of all queues' progress."""
    cursor = await connection.execute(
        "SELECT bool_and(caught_up_since IS NOT NULL), max(caught_up_since), min(updated_at) FROM recorder_progress"
    )
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return Progress(None, int(row[2]) if row and row[2] is not None else 0)
    return Progress(int(row[1]), int(row[2]))
