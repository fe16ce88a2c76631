"""``mailwarren search``: mails that were asked for, from Postgres."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer

from services.cli.given import Config, DbUri, load_given, wait_for
from services.cli.table import render_table
from shared.storage.asked import BadParameter
from shared.storage.database import Database, DatabaseSettings
from shared.storage.search import MOST, STATUSES, find_page, parse_search
from shared.trouble import BadSetting

HEADS = ("updated (UTC)", "status", "recipient", "envelope", "code", "class", "description", "id")

Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Not before: 2h (ago), 2026-11-23, '2026-11-23 04:00:00' UTC.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before; written as --since.")]
Class = Annotated[str | None, typer.Option("--class", metavar="CLASS", help="Bounce class, as 'mailwarren show' tells it.")]
Destination = Annotated[str | None, typer.Option("--destination", metavar="DOMAIN", help="Domain of the recipient.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(search)


def search(
    recipient: Annotated[str | None, typer.Option("--recipient", metavar="ADDRESS", help="An address, or '*@domain'.")] = None,
    sender: Annotated[
        str | None, typer.Option("--sender", metavar="ADDRESS", help="The same of the envelope; '<>' is the null sender.")
    ] = None,
    status: Annotated[str | None, typer.Option("--status", metavar="STATUS", help=f"{', '.join(STATUSES)}.")] = None,
    bounce_class: Class = None,
    destination: Destination = None,
    since: Since = None,
    until: Until = None,
    archived: Annotated[bool, typer.Option("--archived", help="Look into the archive, too.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="End after N mails.")] = 50,
    raw: Annotated[bool, typer.Option("--raw", help="JSON, one mail a line, every attempt.")] = False,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Find mails, final or under way, that meet every condition; the newest first.

    \b
      mailwarren search --recipient bob@example.org
      mailwarren search --sender '*@shop.example' --status failed --since 2h
      mailwarren search --destination gmail.com --status deferred
      mailwarren search --class quota --since 2026-11-23 --raw --limit 1000
    """
    given = {
        "recipient": recipient,
        "sender": sender,
        "status": status,
        "class": bounce_class,
        "destination": destination,
        "since": since,
        "until": until,
        "archived": "true" if archived else None,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    try:
        parse_search(asked, datetime.now(UTC))
    except BadParameter as error:
        raise BadSetting(f"--{error}") from None
    return wait_for(_print_found(load_given(DatabaseSettings, config, db_uri=db_uri), asked, limit, raw))


def render_row(document: Mapping[str, Any]) -> list[str]:
    """One mail as a line of the table."""
    attempts = document["attempts"]
    last = attempts[-1] if attempts else {}
    words = " ".join(str(last.get("description") or "").split())
    return [
        str(document["updated"]),
        document["status"],
        document["recipient"],
        document["envelope"] or "<>",
        str(last.get("code") or ""),
        str(last.get("class") or ""),
        words[:60],
        document["id"],
    ]


async def find_all(database: Database, asked: Mapping[str, str], limit: int) -> AsyncIterator[dict[str, Any]]:
    """At most ``limit`` mails, page by page."""
    now = datetime.now(UTC)
    cursor = ""
    while limit > 0:
        page_of = parse_search({**asked, "limit": str(min(limit, MOST)), "cursor": cursor}, now)
        async with database.connection() as connection:
            page = await find_page(connection, page_of)
        for document in page.messages:
            yield document
        limit -= len(page.messages)
        if page.next is None:
            return
        cursor = page.next


async def _print_found(settings: DatabaseSettings, asked: Mapping[str, str], limit: int, raw: bool) -> int:
    database = Database(settings, name="mailwarren search")
    rows: list[list[str]] = []
    count = 0
    try:
        async for document in find_all(database, asked, limit):
            count += 1
            if raw:
                print(orjson.dumps(document).decode(), flush=True)
            else:
                rows.append(render_row(document))
    finally:
        await database.close()
    if rows:
        print("\n".join(render_table(HEADS, rows)))
    if not count:
        typer.echo("no mail meets these conditions", err=True)
        return 1
    if count == limit:
        typer.echo(f"the newest {limit}; --limit N shows more, --until earlier ones", err=True)
    return 0
