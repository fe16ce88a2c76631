"""What the result-recorder writes: rows, and the statements that store thousands of them in one transaction.

Everything here may be repeated: a row that is there already changes nothing, a late lower state never overwrites a final one.
A batch is COPYed into temporary tables and inserted from there (COPY has no ON CONFLICT).
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg
from psycopg import errors

from shared.storage.accepted_at import has_accepted_at
from shared.storage.completion import Complete, render_array, settle_submissions
from shared.storage.database import Connection, DatabaseSettings, connect, translating
from shared.storage.progress import note_break
from shared.trouble import Unavailable

Value = str | int | None


class SubmissionRow(NamedTuple):
    """A row of ``messages``; lists and objects as Postgres literals."""

    transaction: str
    message_id: str
    message_type: str
    sender: str
    recipients: str
    """JSON: {id: {"recipient", "message_id", "datafile"}}."""
    recipients_total: int
    subject: str
    channel: str
    status: str
    return_path: str
    datafile: str | None
    strategy: str | None
    ids: str
    """JSON: list of ids and message-ids."""
    keepmime: str
    """``t`` or ``f``."""
    next_attempt_at: int


class AttemptRow(NamedTuple):
    """A row of ``delivery_attempts``."""

    id: str
    recipient: str
    attempt: int
    state: str | None
    result: str | None
    code: int | None
    status: str | None
    description: str | None
    bounce_class: str | None
    mta: str | None
    local_ip: str | None
    remote_ip: str | None
    time: int
    destination: str
    next_attempt_at: int | None
    report: str
    """JSON: the attempt as on the wire."""


class StatusRow(NamedTuple):
    """A row of ``message_status``."""

    id: str
    transaction: str
    recipients_total: int
    message_id: str
    subject: str
    sender: str
    recipient: str
    delivery_strategy: str | None
    status: str
    state: str | None
    code: int | None
    bounce_class: str | None
    destination: str
    results: str
    """JSON: every attempt."""
    accepted_at: int | None = None
    """Unix seconds."""


@dataclass(slots=True)
class Rows:
    """What one batch comes to; at most one row per key."""

    submissions: list[SubmissionRow] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    statuses: list[StatusRow] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    """Keys of payloads that outlive their mail."""


class UnstorableRows(Exception):
    """Postgres refuses the data themselves: some row of the batch can never be stored. Nothing was."""


_REFUSED = (psycopg.DataError, psycopg.IntegrityError, errors.ProgramLimitExceeded, errors.StatementTooComplex)
_AGAIN = (errors.DeadlockDetected, errors.SerializationFailure)
_TRIES = 3

_STAGE = """
    CREATE TEMPORARY TABLE IF NOT EXISTS stage_messages (
        transaction text, message_id text, message_type text, sender text, recipients jsonb, recipients_total integer,
        subject text, channel text, status text, return_path text, datafile text, strategy text, ids jsonb,
        keepmime boolean, next_attempt_at bigint
    ) ON COMMIT DELETE ROWS;
    CREATE TEMPORARY TABLE IF NOT EXISTS stage_attempts (
        id text, recipient text, attempt integer, state text, result text, code integer, status text, description text,
        class text, mta text, "from" text, "to" text, time bigint, destination text, next_attempt_at bigint, report jsonb
    ) ON COMMIT DELETE ROWS;
    CREATE TEMPORARY TABLE IF NOT EXISTS stage_status (
        id text, transaction text, recipients_total integer, message_id text, subject text, sender text, recipient text,
        delivery_strategy text, status text, state text, code integer, class text, destination text, results jsonb,
        accepted_at bigint
    ) ON COMMIT DELETE ROWS
"""

# Every insert goes in the order of its key: two recorders with overlapping batches wait for each other instead of deadlocking.
_PUT_MESSAGES = """
    INSERT INTO messages AS m (
        transaction, message_id, message_type, sender, recipients, recipients_total, subject, channel, status,
        return_path, datafile, strategy, ids, keepmime, next_attempt_at, created_at, updated_at
    )
    SELECT transaction, message_id, message_type, sender, recipients, recipients_total, subject, channel, status,
           return_path, datafile, strategy, ARRAY(SELECT jsonb_array_elements_text(ids)), keepmime, next_attempt_at,
           %(now)s, %(now)s
    FROM stage_messages ORDER BY transaction
    ON CONFLICT (transaction) DO UPDATE SET
        recipients = m.recipients || excluded.recipients,
        recipients_total = greatest(m.recipients_total, excluded.recipients_total),
        ids = ARRAY(SELECT DISTINCT unnest(m.ids || excluded.ids)),
        status = CASE WHEN m.status IN ('accepted', 'routed') THEN excluded.status ELSE m.status END,
        datafile = coalesce(m.datafile, excluded.datafile),
        keepmime = m.keepmime OR excluded.keepmime,
        updated_at = excluded.updated_at
    WHERE NOT m.recipients @> excluded.recipients
        OR (m.status IN ('accepted', 'routed') AND excluded.status <> m.status AND excluded.status <> 'accepted')
        OR (m.datafile IS NULL AND excluded.datafile IS NOT NULL)
        OR (excluded.keepmime AND NOT m.keepmime)
"""

_PUT_ATTEMPTS = """
    INSERT INTO delivery_attempts (
        id, recipient, attempt, state, result, code, status, description, class, mta, "from", "to", time, destination,
        next_attempt_at, report, created_at, updated_at
    )
    SELECT s.*, %(now)s, %(now)s FROM stage_attempts s ORDER BY id, attempt
    ON CONFLICT (id, attempt) DO NOTHING
"""

# Only the newest attempt of a mail says when the next one is due.
_CLEAR_DUE = """
    UPDATE delivery_attempts d SET next_attempt_at = NULL, updated_at = %(now)s
    WHERE d.next_attempt_at IS NOT NULL AND d.id = ANY (%(ids)s)
      AND EXISTS (SELECT FROM delivery_attempts n WHERE n.id = d.id AND n.attempt > d.attempt)
"""

# delivered outranks failed; of two lineages of one attempt number the better verdict's is kept.
_PUT_VERDICTS = """
    INSERT INTO message_status AS s (
        id, transaction, recipients_total, message_id, subject, sender, recipient, delivery_strategy, status, state,
        code, class, destination, results, created_at, updated_at{accepted_at}
    )
    SELECT id, transaction, recipients_total, message_id, subject, sender, recipient, delivery_strategy, status, state,
           code, class, destination, results, %(now)s, %(now)s{accepted_at}
    FROM stage_status ORDER BY id
    ON CONFLICT (id) DO UPDATE SET (delivery_strategy, status, state, code, class, results, updated_at{accepted_at}) = (
        SELECT b.delivery_strategy, b.status, b.state, b.code, b.class,
            (
                SELECT coalesce(jsonb_agg(r ORDER BY (r ->> 'attempt')::integer), '[]') FROM (
                    SELECT r FROM jsonb_array_elements(b.results) r
                    UNION ALL
                    SELECT r FROM jsonb_array_elements(b.others) r WHERE NOT EXISTS (
                        SELECT FROM jsonb_array_elements(b.results) k WHERE k -> 'attempt' = r -> 'attempt'
                    )
                ) u
            ),
            excluded.updated_at{kept}
        FROM (
            SELECT excluded.delivery_strategy, excluded.status, excluded.state, excluded.code, excluded.class,
                   excluded.results, s.results AS others
            WHERE s.status = 'failed' AND excluded.status = 'delivered'
            UNION ALL
            SELECT s.delivery_strategy, s.status, s.state, s.code, s.class, s.results, excluded.results
            WHERE NOT (s.status = 'failed' AND excluded.status = 'delivered')
        ) b
    )
    WHERE (s.status = 'failed' AND excluded.status = 'delivered') OR NOT s.results @> excluded.results
"""
_PUT_STATUS = _PUT_VERDICTS.format(accepted_at=", accepted_at", kept=", coalesce(s.accepted_at, excluded.accepted_at)")
_PUT_STATUS_BEFORE = _PUT_VERDICTS.format(accepted_at="", kept="")
"""Into the schema before the column ``accepted_at``."""

_KEEP = """
    INSERT INTO kept_payloads (datafile, created_at, updated_at)
    SELECT datafile, %(now)s, %(now)s FROM unnest(%(kept)s::text[]) AS datafile ORDER BY datafile
    ON CONFLICT DO NOTHING
"""

_FINAL_WITH_ATTEMPTS = """
    SELECT s.id FROM message_status s
    WHERE s.id = ANY (%(ids)s::text[]) AND EXISTS (SELECT FROM delivery_attempts d WHERE d.id = s.id)
"""
_LOCK_FINAL = "SELECT FROM message_status WHERE id = ANY (%(ids)s) ORDER BY id FOR UPDATE"

_MOVE_ATTEMPTS = """
    WITH moved AS (
        DELETE FROM delivery_attempts WHERE id = ANY (%(ids)s) RETURNING id, attempt, report
    ), missing AS (
        SELECT m.id, jsonb_agg(m.report) AS reports FROM moved m JOIN message_status s ON s.id = m.id
        WHERE NOT EXISTS (
            SELECT FROM jsonb_array_elements(s.results) r WHERE (r ->> 'attempt')::integer = m.attempt
        )
        GROUP BY m.id
    )
    UPDATE message_status s SET updated_at = %(now)s, results = (
        SELECT jsonb_agg(r ORDER BY (r ->> 'attempt')::integer)
        FROM jsonb_array_elements(s.results || missing.reports) r
    )
    FROM missing WHERE s.id = missing.id
"""


class RecordTables:
    """One connection that writes records. Every method raises Unavailable when Postgres is down; then ``open`` it again."""

    def __init__(self, settings: DatabaseSettings, *, name: str = "result-recorder") -> None:
        self.settings = settings
        self._name = name
        self._connection: Connection | None = None
        self._has_accepted_at = False
        self._limit = settings.db_statement_timeout.total_seconds() + 5

    @property
    def is_open(self) -> bool:
        """Connected, as far as is known."""
        return self._connection is not None and not self._connection.closed

    async def open(self) -> None:
        """Connect unless connected, and look whether the tables are there and writable. Raises Unavailable."""
        if not self.is_open:
            self._connection = await connect(self.settings, name=self._name)
        async with self._using() as connection:
            cursor = await connection.execute("SHOW transaction_read_only")
            row = await cursor.fetchone()
            if row is None or row[0] != "off":
                raise Unavailable("Postgres is read-only")
            await connection.execute(_STAGE)
            # Every access here is by key. A plan made while the tables were small is kept until autovacuum has looked at
            # them; with a sequential scan in it each mail costs more than the one before (0.2 ms, then 1 ms after 10,000).
            await connection.execute("SET enable_seqscan = off")
            await connection.execute("SELECT FROM messages, message_status, delivery_attempts LIMIT 0")

    async def close(self) -> None:
        """Drop the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def store(self, rows: Rows, *, now: int) -> None:
        """Insert all rows in one transaction. Raises UnstorableRows when the data are to blame."""
        ids = list({row.id for row in rows.attempts})
        async with self._using() as connection:
            for attempt in range(1, _TRIES + 1):
                try:
                    async with connection.transaction():
                        await self._put(connection, rows, ids, now)
                    return
                except _REFUSED as error:
                    raise UnstorableRows(_reason(error)) from error
                except _AGAIN:
                    if attempt == _TRIES:
                        raise

    async def settle(self, *, ids: Collection[str], transactions: Collection[str], now: int) -> tuple[int, list[Complete]]:
        """After a commit: move attempts of final mail into its status, and look which submissions are complete.

        In a transaction of its own: whichever of several recorders commits last sees what all have written. See ``settle_submissions``.
        """
        async with self._using() as connection:
            for attempt in range(1, _TRIES + 1):
                try:
                    cursor = await connection.execute(_FINAL_WITH_ATTEMPTS, {"ids": render_array(ids)})
                    if final := [row[0] for row in await cursor.fetchall()]:
                        async with connection.transaction():
                            await connection.execute(_LOCK_FINAL, {"ids": final})
                            await connection.execute(_MOVE_ATTEMPTS, {"ids": final, "now": now})
                    return await settle_submissions(connection, transactions)
                except _AGAIN:
                    if attempt == _TRIES:
                        raise
        raise AssertionError

    async def note_break(self, now: int) -> None:
        """A record is about to be parked: see ``shared.storage.progress.note_break``."""
        async with self._using() as connection:
            await note_break(connection, now)

    async def _put(self, connection: Connection, rows: Rows, ids: list[str], now: int) -> None:
        if rows.submissions:
            await _copy(connection, "COPY stage_messages FROM STDIN", rows.submissions)
            await connection.execute(_PUT_MESSAGES, {"now": now})
        if rows.kept:
            await connection.execute(_KEEP, {"kept": list(rows.kept), "now": now})
        if rows.attempts:
            await _copy(connection, "COPY stage_attempts FROM STDIN", rows.attempts)
            await connection.execute(_PUT_ATTEMPTS, {"now": now})
            await connection.execute(_CLEAR_DUE, {"ids": ids, "now": now})
        if rows.statuses:
            await _copy(connection, "COPY stage_status FROM STDIN", rows.statuses)
            # Looked for as long as it is missing: the schema may be migrated beside us.
            self._has_accepted_at = self._has_accepted_at or await has_accepted_at(connection)
            await connection.execute((_PUT_STATUS if self._has_accepted_at else _PUT_STATUS_BEFORE).encode(), {"now": now})

    @asynccontextmanager
    async def _using(self) -> AsyncIterator[Connection]:
        """The connection, for a bounded time; thrown away when Postgres turns out to be down."""
        connection = self._connection
        if connection is None or connection.closed:
            raise Unavailable("Postgres: not connected")
        try:
            async with translating(), asyncio.timeout(self._limit):
                yield connection
        except Unavailable:
            await self.close()
            raise


def render_copy(rows: Sequence[tuple[Value, ...]]) -> bytes:
    """Rows in COPY's text format. Texts hold no control bytes (they were cleaned), so only the backslash needs care."""
    lines = [
        "\t".join(
            [value.replace("\\", "\\\\") if type(value) is str else "\\N" if value is None else str(value) for value in row]
        )
        for row in rows
    ]
    lines.append("")
    return "\n".join(lines).encode()


async def _copy(connection: Connection, statement: str, rows: Sequence[tuple[Value, ...]]) -> None:
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        await copy.write(render_copy(rows))


def _reason(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).strip()
