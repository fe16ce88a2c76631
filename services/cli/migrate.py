"""``mailwarren migrate``: the tables in Postgres."""

from typing import Annotated

import typer

from services.cli.given import Config, DbUri, load_given
from shared.storage.database import DatabaseSettings
from shared.storage.database import migrate as apply_migrations


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(migrate)


def migrate(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit code 1 when something is pending.")] = False,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Bring the tables in Postgres up to date.

    \b
    Several may run at once, on a database in use.
      DB_URI=postgresql://mailwarren@localhost/mailwarren mailwarren migrate
      mailwarren migrate --check
    """
    settings = load_given(DatabaseSettings, config, db_uri=db_uri)
    revisions = apply_migrations(settings.db_uri, check=check)
    for revision in revisions:
        print(f"pending: {revision}" if check else f"applied: {revision}")
    if not revisions:
        print("the database is up to date")
    return 1 if check and revisions else 0
