"""What a run would do: for the dry run, which changes nothing."""

from datetime import timedelta

from services.archiver.report import Moments, Report
from shared.storage.archive import count_expired, count_movable, fetch_partitions, list_missing
from shared.storage.counters import count_expired_counts
from shared.storage.database import Database
from shared.storage.ended import TABLES, count_ended, count_old_requests

PATIENCE = timedelta(minutes=10)
"""A large table takes its time to be counted."""


async def foresee(database: Database, report: Report, moments: Moments) -> None:
    """Fill the report with what a run at these moments would do in Postgres. Raises Unavailable."""
    async with database.connection(within=PATIENCE) as connection, connection.transaction():
        await connection.execute("SET TRANSACTION READ ONLY")
        await connection.execute(f"SET LOCAL statement_timeout = {round(PATIENCE.total_seconds() * 1000)}")
        partitions = await fetch_partitions(connection)
        report.moved = await count_movable(connection, moments.before)
        report.created = [month.name for month in list_missing(partitions, moments.now)]
        if report.doubt:
            return
        report.dropped = [month.name for month in partitions if moments.is_past(month)]
        report.expired = await count_expired(connection, moments.retained)
        report.forgotten = await count_old_requests(connection, now=moments.now)
        report.counts = await count_expired_counts(connection, moments.counted)
        for table in TABLES:
            report.ended[table] = await count_ended(connection, table, now=moments.now)
