"""Nothing rests unseen: mail that should have been tried by now is a metric and a log line."""

import time
from datetime import timedelta

from services.archiver.metrics import LATE_SECONDS, OVERDUE, OVERDUE_SECONDS
from shared.log import get_logger
from shared.storage.archive import Overdue, find_oldest, find_overdue
from shared.storage.database import Database
from shared.storage.progress import GAP, fetch_progress

log = get_logger()


async def tell_overdue(database: Database, after: timedelta, *, now: int | None = None) -> Overdue:
    """Look once; set the gauges, and log a line when there is any. Raises Unavailable."""
    moment = int(time.time()) if now is None else now
    async with database.connection() as connection:
        overdue = await find_overdue(connection, moment - int(after.total_seconds()))
        progress = await fetch_progress(connection)
    late = 0 if overdue.oldest is None else moment - overdue.oldest
    OVERDUE.set(overdue.count)
    OVERDUE_SECONDS.set(late)
    if overdue.count:
        # With records missing, mail that has long left looks overdue: whoever reads this must know.
        behind = abs(moment - progress.recorded_until)
        is_behind = progress.caught_up_since is None or behind > min(GAP, after.total_seconds())
        log.warning("mail is overdue", count=overdue.count, seconds=late, ids=list(overdue.ids), records_behind=is_behind)
    return overdue


async def tell_late(database: Database, wait: timedelta, *, now: int | None = None) -> int:
    """Set the gauge: for how many seconds the oldest verdict should have been in the archive; 0 when none is late. Raises Unavailable."""
    moment = int(time.time()) if now is None else now
    async with database.connection() as connection:
        oldest = await find_oldest(connection)
    late = 0 if oldest is None else max(0, moment - oldest - int(wait.total_seconds()))
    LATE_SECONDS.set(late)
    return late
