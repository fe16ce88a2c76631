"""One run of the archiver: make months, move, drop, delete, sweep. The clock is an argument."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from services.archiver.foresight import foresee
from services.archiver.metrics import COUNTS, ENDED, EXPIRED, FAILED, FORGOTTEN, MOVED
from services.archiver.report import Moments, Report
from services.archiver.settings import ServiceSettings
from services.archiver.sweep import sweep_payloads
from shared.log import get_logger
from shared.storage.archive import (
    Moved,
    create_partitions,
    drop_partition,
    expire_batch,
    fetch_partitions,
    move_batch,
)
from shared.storage.counters import expire_counts
from shared.storage.database import Database
from shared.storage.ended import TABLES, delete_ended, find_ended
from shared.storage.idempotency import sweep_requests
from shared.storage.open_store import SweptStore
from shared.trouble import Unavailable

log = get_logger()

_NAMES = 10_000
"""Entries that have ended, found with one look at a table."""
_TOLD = 100
"""Of them deleted at once: the triggers tell so many by name. Of more, every follower would read its whole list again."""


async def archive_once(
    database: Database,
    store: SweptStore,
    settings: ServiceSettings,
    *,
    dry_run: bool = False,
    now: int | None = None,
    since: int = 0,
    sweep: bool = True,
    doubt: str = "",
    is_stopping: Callable[[], bool] = lambda: False,
) -> Report:
    """One whole run: batches until none is left. ``dry_run`` changes nothing and says what would be done. Raises Unavailable.

    ``since``: archived rows older than this (unix seconds) have been deleted by earlier runs. ``doubt``: why the clock may be wrong;
    then nothing is deleted. When only the message store is out of reach, all but the sweep is done, and the report says so.
    """
    report = Report(dry_run, doubt=doubt)
    run = _Run(database, settings, Moments.at(int(time.time()) if now is None else now, settings), report, is_stopping)
    if dry_run:
        await foresee(database, report, run.moments)
    else:
        await run.archive(since)
    if doubt:
        report.not_swept = "the clock may be wrong"
    elif not sweep:
        report.not_swept = "not due yet"
    elif not is_stopping():
        await run.sweep(store)
    return report


class _Run:
    """The steps of one run, each counted as soon as it is done."""

    def __init__(
        self, database: Database, settings: ServiceSettings, moments: Moments, report: Report, is_stopping: Callable[[], bool]
    ) -> None:
        self._database = database
        self._settings = settings
        self.moments = moments
        self._report = report
        self._is_stopping = is_stopping

    async def archive(self, since: int) -> None:
        """Everything in Postgres."""
        async with self._database.connection() as connection:
            self._report.created = await create_partitions(connection, self.moments.now)
        await self._move()
        if self._report.doubt:
            return
        await self._drop()
        await self._expire(since)
        await self._forget()
        await self._uncount()
        for table in TABLES:
            await self._end(table)

    async def sweep(self, store: SweptStore) -> None:
        """Payloads. Trouble with the store alone is told, not raised."""
        grace = int(self._settings.max_delivertime.total_seconds()) + 86_400
        try:
            outcome = await sweep_payloads(
                self._database,
                store,
                now=self.moments.now,
                grace=grace,
                dry_run=self._report.dry_run,
                is_stopping=self._is_stopping,
            )
        except Unavailable as error:
            await self._database.ping()
            FAILED.labels("sweep").inc()
            log.warning("the sweep of payloads has failed", reason=str(error))
            self._report.not_swept, self._report.store_down = str(error), True
        else:
            self._report.swept, self._report.not_swept = outcome.deleted, outcome.refusal

    async def _move(self) -> None:
        after = 0
        while not self._is_stopping():
            async with self._database.connection() as connection:
                moved: Moved = await move_batch(
                    connection,
                    before=self.moments.before,
                    now=self.moments.now,
                    most=self._settings.archive_batch_size,
                    after=after,
                )
            self._report.moved += moved.count
            MOVED.inc(moved.count)
            if not moved.count and not after:
                return
            # None from here on: once more from the start, for what others held or the recorder put in behind us.
            after = moved.newest or 0

    async def _drop(self) -> None:
        async with self._database.connection() as connection:
            months = [month for month in await fetch_partitions(connection) if self.moments.is_past(month)]
        for month in months:
            if self._is_stopping():
                return
            async with self._database.connection() as connection:
                count = await drop_partition(connection, month)
            if count is None:
                FAILED.labels("drop").inc()
                log.warning("a month stays until the next run: somebody reads the archive", month=month.name)
                self._report.busy.append(month.name)
            else:
                self._report.dropped.append(month.name)
                self._report.expired += count
                EXPIRED.inc(count)

    async def _expire(self, since: int) -> None:
        retained = self.moments.retained
        async with self._database.connection() as connection:
            months = [month for month in await fetch_partitions(connection) if month.start < retained < month.end]
        for month in months:
            count = 1
            while count and not self._is_stopping():
                async with self._database.connection() as connection:
                    count = await expire_batch(
                        connection, month, before=retained, since=since, most=self._settings.archive_batch_size
                    )
                self._report.expired += count
                EXPIRED.inc(count)

    async def _forget(self) -> None:
        count = 1
        while count and not self._is_stopping():
            async with self._database.connection() as connection:
                count = await sweep_requests(connection, now=datetime.fromtimestamp(self.moments.now, UTC))
            self._report.forgotten += count
            FORGOTTEN.inc(count)

    async def _uncount(self) -> None:
        count = 1
        while count and not self._is_stopping():
            async with self._database.connection() as connection:
                count = await expire_counts(connection, before=self.moments.counted, most=self._settings.archive_batch_size)
            self._report.counts += count
            COUNTS.inc(count)

    async def _end(self, table: str) -> None:
        self._report.ended[table] = 0
        while not self._is_stopping():
            async with self._database.connection() as connection:
                names = await find_ended(connection, table, now=self.moments.now, most=_NAMES)
                for start in range(0, len(names), _TOLD):
                    count = await delete_ended(connection, table, names[start : start + _TOLD], now=self.moments.now)
                    self._report.ended[table] += count
                    ENDED.labels(table).inc(count)
            if len(names) < _NAMES:
                return
