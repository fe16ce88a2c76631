"""``mailwarren show``: every attempt of one mail, from Postgres."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
import typer

from services.cli.given import Config, DbUri, load_given, wait_for
from services.cli.table import render_table
from shared.storage.database import Database, DatabaseSettings
from shared.storage.status import find_message


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(show)


def show(
    ident: Annotated[str, typer.Argument(metavar="MESSAGE-ID", help="Our id of one recipient's mail, or the Message-ID header.")],
    raw: Annotated[bool, typer.Option("--raw", help="JSON, one recipient a line.")] = False,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """What became of a mail, every attempt.

    \b
      mailwarren show 0e6b8a3c-…
      mailwarren show '<20261123.1@example.com>'
    """
    found = wait_for(_find(load_given(DatabaseSettings, config, db_uri=db_uri), ident))
    if not found:
        typer.echo(f"no mail is known under {ident!r}: one just accepted is recorded within a second", err=True)
        return 1
    for document in found:
        print(orjson.dumps(document).decode() if raw else render_mail(document))
    return 0


def render_mail(document: Mapping[str, Any]) -> str:
    """The mail's own lines, then a table of its attempts."""
    lines = [f"{document['recipient']}: {document['status']}"]
    names = ("id", "message-id", "envelope", "subject", "strategy", "accepted", "updated", "nextattempt")
    lines += [f"  {name:<12} {document[name] or '<>'}" for name in names if document.get(name) or name == "envelope"]
    attempts: Sequence[Mapping[str, Any]] = document["attempts"]
    if not attempts:
        return "\n".join([*lines, "  no attempt yet", ""])
    heads = ("attempt", "time", "state", "result", "code", "status", "class", "mta", "description")
    rows = [[_cell(attempt.get(name)) for name in heads] for attempt in attempts]
    return "\n".join([*lines, *("  " + line for line in render_table(heads, rows)), ""])


def _cell(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())[:100]


async def _find(settings: DatabaseSettings, ident: str) -> list[dict[str, Any]]:
    database = Database(settings, name="mailwarren show")
    try:
        async with database.connection() as connection:
            return await find_message(connection, ident)
    finally:
        await database.close()
