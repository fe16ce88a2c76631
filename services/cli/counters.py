"""``mailwarren counters``: how many mails became final, from Postgres."""

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer

from services.cli.given import Config, DbUri, load_given, wait_for
from services.cli.search import Class, Destination, Since, Until
from services.cli.table import render_table
from shared.storage.asked import BadParameter
from shared.storage.counters import BY, DEFAULT_LIMIT, Question, count_final, parse_question
from shared.storage.database import Database, DatabaseSettings
from shared.trouble import BadSetting


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(counters)


def counters(
    by: Annotated[
        str, typer.Option("--by", metavar="COLUMNS", help=f"One or several of {', '.join(BY)}, with commas.")
    ] = "destination",
    since: Since = "24h",
    until: Until = None,
    destination: Destination = None,
    bounce_class: Class = None,
    status: Annotated[str | None, typer.Option("--status", metavar="STATUS", help="delivered or failed.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="Rows at most.")] = DEFAULT_LIMIT,
    raw: Annotated[bool, typer.Option("--raw", help="JSON.")] = False,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Count mails that became final, by destination, class, status or hour.

    \b
    Beyond 48 hours destinations are counted by whole days (UTC), over 31 days at most.
      mailwarren counters --by destination --since 24h
      mailwarren counters --by hour,status --since 720h --destination gmail.com
      mailwarren counters --by class --status failed --since 2026-11-01
    """
    given = {
        "by": by,
        "since": since,
        "until": until,
        "destination": destination,
        "class": bounce_class,
        "status": status,
        "limit": str(limit),
    }
    try:
        question = parse_question({name: value for name, value in given.items() if value is not None}, datetime.now(UTC))
    except BadParameter as error:
        raise BadSetting(f"--{error}") from None
    answer = wait_for(_count(load_given(DatabaseSettings, config, db_uri=db_uri), question))
    if raw:
        print(orjson.dumps(answer).decode())
        return 0
    rows = [["-" if value is None else f"{value:,}" if name == "count" else str(value) for name, value in counter.items()]
            for counter in answer["counters"]]  # fmt: skip
    total = ["total", *[""] * (len(question.by) - 1), f"{answer['total']:,}"]
    print(f"{answer['since']} to {answer['until']} (UTC)")
    print("\n".join(render_table((*question.by, "mails"), [*rows, total])))
    return 0


async def _count(settings: DatabaseSettings, question: Question) -> dict[str, Any]:
    database = Database(settings, name="mailwarren counters")
    try:
        async with database.connection() as connection:
            return await count_final(connection, question)
    finally:
        await database.close()
