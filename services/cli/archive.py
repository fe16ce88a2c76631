"""``mailwarren archive``: one run of the archiver by hand."""

import time
from typing import Annotated

import typer

from services.archiver.clock import Clock, read_steady
from services.archiver.handler import archive_once
from services.archiver.report import Report
from services.archiver.settings import ServiceSettings
from services.cli.given import Config, DbUri, load_given, wait_for
from shared.storage.archive import fetch_clock
from shared.storage.database import Database
from shared.storage.open_store import open_store
from shared.trouble import BadSetting


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(archive)


def archive(
    once: Annotated[bool, typer.Option("--once", help="One run, then end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, say what a run would do.")] = False,
    storage_url: Annotated[
        str | None, typer.Option("--storage-url", metavar="URL", help="Message store; else STORAGE_URL.")
    ] = None,
    wait: Annotated[str | None, typer.Option("--wait-before-archive", help="Else WAIT_BEFORE_ARCHIVE.")] = None,
    retention: Annotated[str | None, typer.Option("--archive-retention-period", help="Else ARCHIVE_RETENTION_PERIOD.")] = None,
    db_uri: DbUri = None,
    config: Config = None,
) -> int:
    """Move old verdicts to the archive, once.

    \b
    Also drops what is past its retention, what has ended, and payloads without a mail: what 'mailwarren run archiver'
    does every ARCHIVE_INTERVAL. Safe beside a running archiver. Exit code 1: a part was left undone, the output says why.
      mailwarren archive --once --dry-run
      mailwarren archive --once --wait-before-archive 720h
    """
    if not once:
        raise BadSetting("expected --once: 'mailwarren run archiver' is the process that goes on")
    settings = load_given(
        ServiceSettings,
        config,
        db_uri=db_uri,
        storage_url=storage_url,
        wait_before_archive=wait,
        archive_retention_period=retention,
    )
    report = wait_for(_run(settings, dry_run))
    for line in report.lines():
        print(line)
    return 1 if report.is_partial else 0


async def _run(settings: ServiceSettings, dry_run: bool) -> Report:
    database, store = Database(settings, name="mailwarren archive"), open_store(settings)
    try:
        async with database.connection() as connection:
            postgres = await fetch_clock(connection)
        doubt = Clock().find_doubt(time.time(), read_steady(), postgres)
        return await archive_once(database, store, settings, dry_run=dry_run, doubt=doubt)
    finally:
        await database.close()
        await store.close()
