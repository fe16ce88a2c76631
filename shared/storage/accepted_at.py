"""When a final mail was accepted: a column of verdicts that schema 0004 added. Beside the schema before, all works without it."""

from shared.storage.database import Connection

_IS_THERE = b"""
    SELECT count(*) = 2 FROM pg_attribute WHERE attname = 'accepted_at' AND NOT attisdropped
      AND attrelid IN ('message_status'::regclass, 'message_status_archive'::regclass)
"""


async def has_accepted_at(connection: Connection) -> bool:
    """Whether both tables of verdicts have the column."""
    row = await (await connection.execute(_IS_THERE)).fetchone()
    return row is not None and bool(row[0])
