"""The endpoints in the table ``webhooks``: kept with their secret and their state, shown without the secret.

Several processes write the state of one endpoint at once, so each change is one statement whose condition looks at the row as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from psycopg.rows import dict_row, scalar_row

from shared.delivery.webhooks import FIELDS, STATE, Endpoint, make_secret, parse_endpoint
from shared.storage.database import Connection
from shared.storage.documents import Collection, fetch_document
from shared.wire.times import render_time

TABLE = "webhooks"
MOST_REASON = 300


class Endpoints(Collection):
    """The collection; what it shows never has a secret in it."""

    __slots__ = ()

    def read(self, document: Any) -> Endpoint:
        """What GET has shown may come back as it is: what only we write is left out. Raises ValueError that begins with the field."""
        if isinstance(document, Mapping):
            document = {key: value for key, value in document.items() if key not in STATE}
        entry = super().read(document)
        if not isinstance(entry, Endpoint):
            raise TypeError("the collection of webhooks is read by parse_endpoint")
        return entry

    def show(self, row: Mapping[str, Any], *, with_times: bool = True) -> dict[str, Any]:
        """A row without its secret."""
        return super().show({key: value for key, value in row.items() if key != "secret"}, with_times=with_times)


WEBHOOKS = Endpoints(TABLE, "webhook", "webhooks", FIELDS, parse_endpoint)


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of an endpoint that was stored."""

    row: Mapping[str, Any]
    is_new: bool
    secret: str | None
    """To be shown now and never again; None: the one that was there goes on, or the caller gave it for an endpoint that was there."""


async def store_endpoint(connection: Connection, endpoint: Endpoint, now: datetime) -> Stored:
    """Add it, or replace the one of its name, which keeps its secret unless another is given, and its state unless ``enabled`` is said."""
    async with connection.transaction():
        # Two that add the same name at once: the second one sees the first one's row.
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{TABLE} {endpoint.name}"])
        known = await fetch_document(connection, TABLE, endpoint.name)
        document = endpoint.document
        made = None if known is not None and known.get("secret") else endpoint.secret or make_secret()
        document.setdefault("secret", made or (known or {}).get("secret"))
        if endpoint.is_enabled is None:
            document["enabled"] = (known or {}).get("enabled", True)
            document |= {name: known[name] for name in STATE if known is not None and name in known}
        elif not endpoint.is_enabled:
            document |= {"disabled_at": render_time(now), "reason": "by hand"}
        moment = int(now.timestamp())
        await connection.execute(
            """
            INSERT INTO webhooks (name, document, created_at, updated_at) VALUES (%(name)s, %(document)s::jsonb, %(now)s, %(now)s)
            ON CONFLICT (name) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at
            """,
            {"name": endpoint.name, "document": orjson.dumps(document).decode(), "now": moment},
        )
        row = await fetch_document(connection, TABLE, endpoint.name)
    return Stored(row or {"name": endpoint.name, **document}, known is None, made)


async def enable_endpoint(connection: Connection, name: str, now: datetime) -> bool:
    """It starts afresh: no failure counts any more. False: there is none of this name."""
    return await _change(
        connection,
        "document - %(state)s::text[] || '{\"enabled\": true}'",
        "TRUE",
        {"name": name, "state": list(STATE)},
        now,
    )


async def disable_endpoint(connection: Connection, name: str, reason: str, now: datetime) -> bool:
    """Nothing is posted to it any more. False: there is none of this name, or it is disabled already."""
    given = {"enabled": False, "disabled_at": render_time(now), "reason": reason[:MOST_REASON]}
    values = {"name": name, "given": orjson.dumps(given).decode()}
    return await _change(connection, "document || %(given)s::jsonb", _IS_ENABLED, values, now)


async def mark_failing(connection: Connection, name: str, reason: str, now: datetime) -> bool:
    """It fails from now on, unless it did so before."""
    given = {"failing_since": render_time(now), "reason": reason[:MOST_REASON]}
    values = {"name": name, "given": orjson.dumps(given).decode()}
    return await _change(
        connection, "document || %(given)s::jsonb", f"{_IS_ENABLED} AND NOT document ? 'failing_since'", values, now
    )


async def clear_failing(connection: Connection, name: str, now: datetime) -> bool:
    """It has taken something: its failures count no more."""
    return await _change(
        connection,
        "document - '{failing_since,reason}'::text[]",
        f"{_IS_ENABLED} AND document ? 'failing_since'",
        {"name": name},
        now,
    )


async def disable_failing(connection: Connection, name: str, reason: str, patience: timedelta, now: datetime) -> bool:
    """Disable it when all that was posted to it for ``patience`` has failed, by the time in its row. True: it is disabled now."""
    given = {"enabled": False, "disabled_at": render_time(now), "reason": reason[:MOST_REASON]}
    values = {"name": name, "given": orjson.dumps(given).decode(), "since": render_time(now - patience)}
    # Times of this form are in the order of their text.
    return await _change(
        connection, "document || %(given)s::jsonb", f"{_IS_ENABLED} AND document->>'failing_since' <= %(since)s", values, now
    )


_IS_ENABLED = "COALESCE(document->>'enabled', 'true') = 'true'"


async def _change(connection: Connection, document: str, condition: str, values: Mapping[str, Any], now: datetime) -> bool:
    # Both are texts of this file.
    query = f"UPDATE webhooks SET document = {document}, updated_at = %(now)s WHERE name = %(name)s AND {condition} RETURNING 1"  # noqa: S608
    async with connection.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(query.encode(), {**values, "now": int(now.timestamp())})
        return await cursor.fetchone() is not None


async def fetch_final(connection: Connection, after: tuple[int, str], most: int = 1000) -> list[Mapping[str, Any]]:
    """Final verdicts, the oldest first, behind ``after`` (``updated_at``, ``id``); empty when there are no more."""
    columns = "id, transaction, message_id, sender, recipient, subject, status, results, updated_at"
    query = f"SELECT {columns} FROM message_status WHERE (updated_at, id) > (%s, %s) ORDER BY updated_at, id LIMIT %s"  # noqa: S608
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), [*after, most])
        return list(await cursor.fetchall())
