"""One run of the archiver: move, drop, delete, sweep. The clock is an argument."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from services.archiver.metrics import EXPIRED, MOVED, SWEPT
from services.archiver.settings import ServiceSettings
from services.archiver.sweep import Sweep, sweep_payloads
from shared.log import get_logger
from shared.storage.archive import (
    Partition,
    count_expired,
    count_movable,
    create_partitions,
    drop_partition,
    expire_batch,
    fetch_partitions,
    list_missing,
    move_batch,
)
from shared.storage.database import Database
from shared.storage.open_store import SweptStore

log = get_logger()


@dataclass(slots=True)
class Report:
    """What a run did, or would do."""

    dry_run: bool
    moved: int = 0
    """Verdicts moved to the archive."""
    created: list[str] = field(default_factory=list)
    """Months made."""
    dropped: list[str] = field(default_factory=list)
    """Months dropped."""
    expired: int = 0
    """Archived verdicts gone, those in dropped months included."""
    swept: int = 0
    """Payloads deleted."""
    not_swept: str = ""
    """Why no payload was looked at; empty when they were."""

    def lines(self) -> list[str]:
        """The report for people."""
        would = "would be " if self.dry_run else ""
        told = [
            f"verdicts {would}moved to the archive: {self.moved}",
            f"archived verdicts past their retention {would}deleted: {self.expired}",
            f"months {would}made: {', '.join(self.created) or 'none'}",
            f"months {would}dropped: {', '.join(self.dropped) or 'none'}",
        ]
        if self.not_swept:
            return [*told, f"payloads not swept: {self.not_swept}"]
        return [*told, f"payloads without a mail {would}deleted: {self.swept}"]


async def archive_once(
    database: Database,
    store: SweptStore,
    settings: ServiceSettings,
    *,
    dry_run: bool = False,
    now: int | None = None,
    sweep: bool = True,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Report:
    """One whole run: batches until none is left. ``dry_run`` changes nothing and says what would be done. Raises Unavailable."""
    moment = int(time.time()) if now is None else now
    report = Report(dry_run)
    before = moment - int(settings.wait_before_archive.total_seconds())
    retained = moment - int(settings.archive_retention_period.total_seconds())
    if dry_run:
        await _foresee(database, report, before=before, retained=retained, now=moment)
    else:
        await _work(database, report, settings, before=before, retained=retained, now=moment, is_stopping=is_stopping)
    if sweep and not is_stopping():
        grace = int(settings.max_delivertime.total_seconds()) + 86_400
        outcome: Sweep = await sweep_payloads(database, store, now=moment, grace=grace, dry_run=dry_run, is_stopping=is_stopping)
        report.swept, report.not_swept = outcome.deleted, outcome.refusal
        if not dry_run:
            SWEPT.inc(outcome.deleted)
    elif not sweep:
        report.not_swept = "not due yet"
    return report


def is_past(month: Partition, retained: int) -> bool:
    """Was everything in this month archived before ``retained``?"""
    return month.end <= retained


async def _foresee(database: Database, report: Report, *, before: int, retained: int, now: int) -> None:
    async with database.connection() as connection:
        partitions = await fetch_partitions(connection)
        report.moved = await count_movable(connection, before)
        report.created = [month.name for month in list_missing(partitions, now)]
        report.dropped = [month.name for month in partitions if is_past(month, retained)]
        report.expired = await count_expired(connection, retained)


async def _work(
    database: Database,
    report: Report,
    settings: ServiceSettings,
    *,
    before: int,
    retained: int,
    now: int,
    is_stopping: Callable[[], bool],
) -> None:
    size = settings.archive_batch_size
    async with database.connection() as connection:
        report.created = await create_partitions(connection, now)

    async def move() -> int:
        async with database.connection() as connection:
            return await move_batch(connection, before=before, now=now, most=size)

    async def expire() -> int:
        async with database.connection() as connection:
            return await expire_batch(connection, before=retained, most=size)

    report.moved = await _until_none(move, is_stopping)
    MOVED.inc(report.moved)
    async with database.connection() as connection:
        for month in await fetch_partitions(connection):
            if is_past(month, retained):
                report.expired += await drop_partition(connection, month)
                report.dropped.append(month.name)
    report.expired += await _until_none(expire, is_stopping)
    EXPIRED.inc(report.expired)


async def _until_none(step: Callable[[], Awaitable[int]], is_stopping: Callable[[], bool]) -> int:
    """Repeat ``step`` until it finds nothing more; the sum."""
    total = 0
    while not is_stopping() and (count := await step()):
        total += count
    return total
