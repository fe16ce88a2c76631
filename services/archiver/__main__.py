"""Wires archiver together."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path

from services.archiver.clock import Clock, read_steady
from services.archiver.handler import archive_once
from services.archiver.metrics import DOUBTED, LAST_RUN, RUNS
from services.archiver.overdue import tell_late, tell_overdue
from services.archiver.settings import ServiceSettings
from shared.log import get_logger
from shared.process import Runtime, run_service
from shared.storage.archive import fetch_clock
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

    clock = Clock()

    async def look() -> None:
        clock.note(time.time(), read_steady())
        await tell_overdue(database, settings.overdue_after)
        await tell_late(database, settings.wait_before_archive)

    loops = _Loops(runtime)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(loops.repeat(OVERDUE_INTERVAL, look))
            group.create_task(loops.repeat(settings.archive_interval, _Runs(database, store, settings, runtime, clock)))
    finally:
        await database.close()
        await store.close()


class _Runs:
    """The runs of the archiver; some of them also sweep."""

    def __init__(self, database: Database, store: SweptStore, settings: ServiceSettings, runtime: Runtime, clock: Clock) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._runtime = runtime
        self._clock = clock
        self._swept = self._looked = float("-inf")
        self._expired = 0

    async def __call__(self) -> None:
        """One run."""
        began, interval = time.monotonic(), self._settings.sweep_interval.total_seconds()
        is_due, is_whole = began - self._swept >= interval, began - self._looked >= interval
        now = int(time.time())
        try:
            doubt = await self._find_doubt()
            # Now and then the whole of the oldest month is looked through, else what has passed its retention since the last run.
            report = await archive_once(
                self._database,
                self._store,
                self._settings,
                now=now,
                since=0 if is_whole else self._expired,
                sweep=is_due,
                doubt=doubt,
                is_stopping=self._runtime.stopping.is_set,
            )
        except Unavailable:
            RUNS.labels("unavailable").inc()
            raise
        if is_due and not report.not_swept:
            self._swept = time.monotonic()
        if self._runtime.stopping.is_set():
            return
        if not doubt:
            self._expired = now - int(self._settings.archive_retention_period.total_seconds())
            self._looked = began if is_whole else self._looked
        RUNS.labels("done").inc()
        LAST_RUN.set_to_current_time()
        log.info(
            "archived",
            moved=report.moved,
            expired=report.expired,
            dropped=report.dropped,
            busy=report.busy,
            forgotten=report.forgotten,
            counts=report.counts,
            ended=report.ended,
            swept=report.swept,
            not_swept=report.not_swept,
        )

    async def _find_doubt(self) -> str:
        async with self._database.connection() as connection:
            postgres = await fetch_clock(connection)
        doubt = self._clock.find_doubt(time.time(), read_steady(), postgres)
        DOUBTED.set(bool(doubt))
        if doubt:
            log.warning("nothing is deleted: the clock may be wrong", reason=doubt)
        return doubt


class _Loops:
    """Work that comes again and again; the process is ready while none of it is in trouble."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._trouble: set[int] = set()
        self._begun = 0

    async def repeat(self, interval: timedelta, work: Callable[[], Awaitable[None]]) -> None:
        """Begin ``work`` every ``interval`` until the process is asked to stop. What is down is tried again soon."""
        self._begun += 1
        loop = self._begun
        while not self._runtime.stopping.is_set():
            began = time.monotonic()
            try:
                await work()
            except Unavailable as error:
                self._trouble.add(loop)
                self._runtime.ready = False
                log.warning("will be tried again", reason=str(error))
                rest = min(interval, PATIENCE)
            else:
                self._trouble.discard(loop)
                self._runtime.ready = not self._trouble and not self._runtime.stopping.is_set()
                rest = max(timedelta(), interval - timedelta(seconds=time.monotonic() - began))
            await self._runtime.pause(rest)


if __name__ == "__main__":
    sys.exit(main())
