"""Submissions all of whose recipients are final: what of them is left, and how it goes.

In this order: statuses committed, payload deleted from the message store, row of ``messages`` deleted. Without a payload there is nothing
to wait for, and the row goes at once.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shared.storage.database import Connection


@dataclass(frozen=True, slots=True)
class Complete:
    """A submission all of whose recipients are final, and which has a payload."""

    transaction: str
    version: str
    """Of its row, as it was when its payloads were looked up."""
    datafiles: tuple[str, ...]
    """Keys in the message store that go now."""


# A row that somebody changes meanwhile stays: whoever changed it looks at it again.
_SETTLE = """
    WITH complete AS (
        SELECT m.transaction, m.xmin::text AS version, CASE WHEN m.keepmime THEN '{}' ELSE ARRAY(
            SELECT m.datafile WHERE m.datafile IS NOT NULL
            UNION
            SELECT r ->> 'datafile' FROM jsonb_path_query(m.recipients, '$.*') r WHERE r ? 'datafile'
        ) END AS datafiles
        FROM messages m
        WHERE m.transaction = ANY (%(transactions)s::text[]) AND CASE
            WHEN m.recipients_total = 1
            THEN EXISTS (SELECT FROM jsonb_object_keys(m.recipients) AS k (id) JOIN message_status s ON s.id = k.id)
            ELSE (
                SELECT count(*) FROM message_status s WHERE s.transaction = m.transaction AND s.recipients_total > 1
            ) >= m.recipients_total
        END
    ), bare AS (
        DELETE FROM messages m
        WHERE m.transaction = ANY (ARRAY(SELECT transaction FROM complete WHERE datafiles = '{}'))
          AND (m.transaction, m.xmin::text) IN (SELECT transaction, version FROM complete)
    )
    SELECT transaction, version, datafiles FROM complete
"""

_FORGET = """
    DELETE FROM messages WHERE transaction = ANY (%(transactions)s)
        AND (transaction, xmin::text) IN (SELECT * FROM unnest(%(transactions)s::text[], %(versions)s::text[]))
"""

_PAGE = "SELECT transaction FROM messages WHERE transaction > %s AND updated_at <= %s ORDER BY transaction LIMIT 1000"


def render_array(texts: Collection[str]) -> str:
    """An array of text as Postgres reads it: for a thousand ids a fifth of what the driver's own way costs."""
    joined = '","'.join(texts)
    if "\\" in joined or joined.count('"') != 2 * max(0, len(texts) - 1):
        joined = '","'.join(text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return f'{{"{joined}"}}' if texts else "{}"


async def settle_submissions(connection: Connection, transactions: Collection[str]) -> tuple[int, list[Complete]]:
    """How many of these are complete now, and those whose payloads must go first; the rows of the others are gone."""
    cursor = await connection.execute(_SETTLE, {"transactions": render_array(transactions)})
    found = await cursor.fetchall()
    return len(found), [Complete(name, version, tuple(datafiles)) for name, version, datafiles in found if datafiles]


async def forget_submissions(connection: Connection, complete: Sequence[Complete]) -> None:
    """Remove the rows of complete submissions; their payloads are gone by now, or left to the sweep."""
    versions = {one.transaction: one.version for one in complete}
    names = sorted(versions)
    await connection.execute(_FORGET, {"transactions": names, "versions": [versions[name] for name in names]})


async def list_submissions(connection: Connection, after: str, *, before: int) -> list[str]:
    """The next transactions in ``messages`` whose rows have not changed since ``before`` (unix seconds), in their order."""
    cursor = await connection.execute(_PAGE, [after, before])
    return [row[0] for row in await cursor.fetchall()]
