"""What is known about a mail: under way or final, with every attempt. For ``GET /v1/messages/{id}`` and ``mailwarren show``."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg.rows import dict_row

from shared.storage.database import Connection
from shared.wire.times import render_time

MOST = 1000
"""Recipients that one Message-ID may bring up."""

_SHOWN = (
    "attempt", "state", "result", "code", "status", "description", "time", "class", "mta", "from", "to", "strategy",
    "possible-duplicate",
)  # fmt: skip

# All columns: the schema before 0004 has no ``accepted_at``.
_FINAL = """
    SELECT * FROM message_status WHERE id = ANY (%(names)s) OR (message_id <> id AND message_id = ANY (%(names)s)) LIMIT %(most)s
"""
_ARCHIVED = """
    SELECT * FROM message_status_archive
    WHERE id = ANY (%(names)s) OR (message_id <> id AND message_id = ANY (%(names)s)) LIMIT %(most)s
"""
_UNDER_WAY = """
    SELECT r.key AS id, r.value ->> 'message_id' AS message_id, m.transaction, m.sender, r.value ->> 'recipient' AS recipient,
           m.subject, m.channel, m.strategy, m.status, m.next_attempt_at, m.created_at
    FROM messages m, jsonb_each(m.recipients) r
    WHERE m.ids && %(names)s AND (r.key = ANY (%(names)s) OR r.value ->> 'message_id' = ANY (%(names)s)) LIMIT %(most)s
"""
_ATTEMPTS = """
    SELECT id, report, next_attempt_at, created_at FROM delivery_attempts WHERE id = ANY (%(ids)s) ORDER BY id, attempt
"""


async def find_message(connection: Connection, ident: str) -> list[dict[str, Any]]:
    """One document per recipient that ``ident`` names: our id names one, a Message-ID (with or without <>) perhaps several; [] = unknown.

    A document: ``id``, ``message-id``, ``transaction``, ``envelope``, ``recipient``, ``subject``, ``status`` (accepted, routed,
    deferred, delivered, failed), ``final``, ``attempts`` (each with state, result, code, status, description, time …), ``nextattempt``
    (when under way), ``strategy``, ``accepted`` (null: recorded before this was), ``updated`` (when it was accepted, deferred or
    final, the last of them; searches are in its order); times as on the wire. Raises psycopg's errors (see ``Database.connection``).
    """
    bare = ident.strip()
    if not bare or "\x00" in bare or len(bare) > 2000 or not bare.isprintable():
        return []
    names = [bare, bare[1:-1] if bare.startswith("<") and bare.endswith(">") else f"<{bare}>"]
    values = {"names": names, "most": MOST}
    documents = await fetch_under_way(connection, names)
    # Asked for last, and winning: a mail that becomes final in between is seen in both places, never in none.
    final = await _fetch(connection, _FINAL, values)
    if final or not documents:
        # A result that came after its mail was archived stands beside what the archive has: see ``_outranks``.
        final += await _fetch(connection, _ARCHIVED, values)
    documents |= {row["id"]: render_final(row) for row in sorted(final, key=_outranks)}
    return sorted(documents.values(), key=lambda document: (document["accepted"] or "", document["recipient"]))


async def fetch_under_way(connection: Connection, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Documents of the mails under way that ``names`` (ids or Message-IDs) name, by id."""
    found = {row["id"]: row for row in await _fetch(connection, _UNDER_WAY, {"names": list(names), "most": MOST})}
    attempts: dict[str, list[dict[str, Any]]] = {}
    if found:
        for row in await _fetch(connection, _ATTEMPTS, {"ids": list(found)}):
            attempts.setdefault(row["id"], []).append(row)
    return {ident: _render_under_way(row, attempts.get(ident, ())) for ident, row in found.items()}


async def _fetch(connection: Connection, query: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), values)
        return await cursor.fetchall()


def _outranks(row: Mapping[str, Any]) -> tuple[bool, float]:
    """Sorts rows of one mail: delivered outranks failed, then what is not archived, then what was archived last."""
    return row["status"] == "delivered", row.get("archived_at") or float("inf")


def _render_under_way(row: Mapping[str, Any], attempts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    told = list(attempts)
    due = told[-1]["next_attempt_at"] if told else row["next_attempt_at"]
    return {
        **_render_common(row, [attempt["report"] for attempt in told]),
        "accepted": _render_time(row["created_at"]),
        # Not what the submission's row says: that changes with its other recipients.
        "updated": _render_time(told[-1]["created_at"] if told else row["created_at"]),
        "status": "deferred" if told else "routed" if row["status"] == "routed" else "accepted",
        "final": False,
        "nextattempt": _render_time(due),
        "strategy": row["strategy"],
        "channel": row["channel"],
    }


def render_final(row: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a row of ``message_status`` or of the archive."""
    return {
        **_render_common(row, row["results"]),
        "accepted": _render_time(row.get("accepted_at")),
        "updated": _render_time(row["updated_at"]),
        "status": row["status"],
        "final": True,
        "nextattempt": None,
        "strategy": row["delivery_strategy"],
        "state": row["state"],
        "code": row["code"],
        "class": row["class"],
        "destination": row["destination"],
        "archived": _render_time(row.get("archived_at")),
    }


def _render_common(row: Mapping[str, Any], reports: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "message-id": row["message_id"],
        "transaction": row["transaction"],
        "envelope": row["sender"],
        "recipient": row["recipient"],
        "subject": row["subject"],
        "attempts": [{name: report[name] for name in _SHOWN if name in report} for report in reports],
    }


def _render_time(seconds: int | None) -> str | None:
    return None if seconds is None else render_time(datetime.fromtimestamp(seconds, UTC))
