"""Wires archiver together."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path

from services.archiver.handler import archive_once
from services.archiver.metrics import RUNS
from services.archiver.overdue import tell_overdue
from services.archiver.settings import ServiceSettings
from shared.log import get_logger
from shared.process import Runtime, run_service
from shared.storage.database import Database
from shared.storage.open_store import SweptStore, open_store
from shared.trouble import Unavailable

log = get_logger()

OVERDUE_INTERVAL = timedelta(minutes=1)
PATIENCE = timedelta(seconds=10)
"""Until the next try when Postgres or the store is down."""


def main(options: Mapping[str, str] | None = None, config: Path | None = None) -> int:
    """Run the process; the exit code."""
    return run_service("archiver", ServiceSettings, serve, options=options, config=config)


async def serve(settings: ServiceSettings, runtime: Runtime) -> None:
    """Archive every ``archive-interval`` and look for overdue mail every minute, until the process is asked to stop."""
    database = Database(settings, name="archiver")
    store = open_store(settings)

    async def look() -> None:
        await tell_overdue(database, settings.overdue_after)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_repeat(runtime, OVERDUE_INTERVAL, look))
            group.create_task(_repeat(runtime, settings.archive_interval, _Runs(database, store, settings, runtime)))
    finally:
        await database.close()
        await store.close()


class _Runs:
    """The runs of the archiver; some of them also sweep."""

    def __init__(self, database: Database, store: SweptStore, settings: ServiceSettings, runtime: Runtime) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._runtime = runtime
        self._swept = float("-inf")

    async def __call__(self) -> None:
        """One run."""
        is_due = time.monotonic() - self._swept >= self._settings.sweep_interval.total_seconds()
        report = await archive_once(
            self._database, self._store, self._settings, sweep=is_due, is_stopping=self._runtime.stopping.is_set
        )
        if is_due and not report.not_swept:
            self._swept = time.monotonic()
        RUNS.labels("done").inc()
        log.info(
            "archived",
            moved=report.moved,
            expired=report.expired,
            dropped=report.dropped,
            swept=report.swept,
            not_swept=report.not_swept,
        )


async def _repeat(runtime: Runtime, interval: timedelta, work: Callable[[], Awaitable[None]]) -> None:
    """Work, rest, and so on until the process is asked to stop. What is down is tried again soon."""
    while not runtime.stopping.is_set():
        try:
            await work()
        except Unavailable as error:
            runtime.ready = False
            RUNS.labels("unavailable").inc()
            log.warning("will be tried again", reason=str(error))
            await runtime.pause(min(interval, PATIENCE))
        else:
            runtime.ready = True
            await runtime.pause(interval)


if __name__ == "__main__":
    sys.exit(main())
