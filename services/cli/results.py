"""``mailwarren results``: results as they pass, or the newest in Postgres. Nothing is taken from the applications' queues."""

import asyncio
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer

from services.cli.given import Address, Config, DbUri, load_given, wait_for
from shared.amqp.application import follow
from shared.amqp.settings import BrokerSettings
from shared.storage.database import Database, DatabaseSettings
from shared.trouble import BadSetting
from shared.wire.times import render_time

KEYS = {"success": "rabbitmq_success", "failure": "rabbitmq_failure"}
STATUS = {"success": "delivered", "failure": "failed"}
_NEWEST = """
    SELECT id, message_id, sender, recipient, subject, results, updated_at FROM message_status
    WHERE status = %s ORDER BY updated_at DESC, id LIMIT %s
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(results)


def results(
    which: Annotated[str, typer.Argument(metavar="success|failure", help="Delivered mail, or mail failed for good.")],
    follow_: Annotated[bool, typer.Option("--follow", "-f", help="Print what passes from now on, until interrupted.")] = False,
    number: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="End after N results (default without --follow: 20).")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="JSON, one result a line.")] = False,
    address: Address = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Print results as they pass, or the newest ones.

    \b
    A line each, or with --raw the JSON.
    With --follow from RabbitMQ, read beside the applications: nobody gets a result less. Without it the newest ones
    from Postgres (DB_URI): looking into the queues would count as a delivery.
      mailwarren results failure --follow
      mailwarren results success -n 5 --raw
    """
    if which not in KEYS:
        raise BadSetting(f"{which!r}: expected success or failure")
    if follow_:
        settings = load_given(BrokerSettings, config, rabbitmq_address=address)
        return wait_for(_follow(settings, which, number, raw))
    if db_uri is None and config is None and "DB_URI" not in os.environ:
        raise BadSetting("without --follow results are read from Postgres: set DB_URI or give --db-uri")
    stored = wait_for(_fetch(load_given(DatabaseSettings, config, db_uri=db_uri), STATUS[which], number or 20))
    for document in reversed(stored):
        _print(document, raw)
    return 0


def render_line(document: Mapping[str, Any]) -> str:
    """time, recipient, state/result, code, status, description, id: for eyes, not for programs."""
    attempts = document.get("results") or document.get("attempts") or [{}]
    last = attempts[-1] if isinstance(attempts, list) and isinstance(attempts[-1], dict) else {}
    words = [
        last.get("time") or document.get("updated"),
        document.get("recipient", "(no recipient)"),
        f"{last.get('state', '?')}/{last.get('result', '?')}",
        last.get("code"),
        last.get("status"),
        " ".join(str(last.get("description") or "").split())[:120],
        f"attempt {last['attempt']}" if "attempt" in last else None,
        f"id {document['id']}" if "id" in document else None,
    ]
    return "  ".join(str(word) for word in words if word not in (None, ""))


async def _follow(settings: BrokerSettings, which: str, number: int | None, raw: bool) -> int:
    key = getattr(settings, KEYS[which])
    if not key:
        raise BadSetting(f"rabbitmq-{which} is empty: no results are published")
    print(f"following key {key!r} of exchange {settings.rabbitmq_exchange!r}", file=sys.stderr)
    seen = 0
    passing = follow(settings, key)
    try:
        async for document in passing:
            _print(document, raw)
            seen += 1
            if number is not None and seen >= number:
                break
    except asyncio.CancelledError:
        return 130
    finally:
        await passing.aclose()
    return 0


async def _fetch(settings: DatabaseSettings, status: str, most: int) -> list[dict[str, Any]]:
    database = Database(settings, name="mailwarren results")
    try:
        async with database.connection() as connection:
            cursor = await connection.execute(_NEWEST, [status, most])
            return [_to_document(*row) for row in await cursor.fetchall()]
    finally:
        await database.close()


def _to_document(
    ident: str, message_id: str, sender: str, recipient: str, subject: str, attempts: Any, updated: int
) -> dict[str, Any]:
    """A row under the names that the wire has; what Postgres does not keep is not in it."""
    return {
        "id": ident,
        "message-id": message_id,
        "envelope": sender,
        "recipient": recipient,
        "subject": subject,
        "results": attempts,
        "updated": render_time(datetime.fromtimestamp(updated, UTC)),
    }


def _print(document: Mapping[str, Any], raw: bool) -> None:
    print(orjson.dumps(document).decode() if raw else render_line(document), flush=True)
