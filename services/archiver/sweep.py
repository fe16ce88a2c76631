"""Payloads that no mail needs: left behind by an inbox that died before it published, or by a delete that failed.

Deleting a payload that somebody needs is the worst this process could do. So a payload goes only when the recorder has kept up without
a break since before the day the payload was written, is keeping up now, and the payload is older than any mail gets, and 24 h more. Why
the recorder may be believed: services/result_recorder/progress.py.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from services.archiver.metrics import FAILED, SWEPT
from shared.log import get_logger
from shared.storage.archive import find_orphans
from shared.storage.database import Database
from shared.storage.open_store import SweptStore
from shared.storage.progress import GAP, Progress, fetch_progress

log = get_logger()

BATCH = 500
_OURS = re.compile(r"v1/(\d{4})/(\d\d)/(\d\d)/[^/]+")


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep did, or would do."""

    deleted: int = 0
    refusal: str = ""
    """Why nothing was looked at."""


def find_refusal(progress: Progress, now: int) -> str:
    """Why payloads must be left alone; "" when they need not."""
    if not progress.recorded_until:
        return "no recorder has ever said that it keeps up"
    if progress.caught_up_since is None:
        return "the recorder is behind, or a record could not be recorded"
    if abs(now - progress.recorded_until) > GAP:
        return f"no sign of life from the recorder for {now - progress.recorded_until} s, or it is behind"
    return ""


def parse_day(key: str) -> int | None:
    """Unix seconds of the start of the day on which one of our payloads was written; None for keys that are not ours."""
    match = _OURS.fullmatch(key)
    if match is None:
        return None
    try:
        return int(datetime(int(match[1]), int(match[2]), int(match[3]), tzinfo=UTC).timestamp())
    except ValueError:
        return None


def is_candidate(key: str, progress: Progress, *, now: int, grace: int) -> bool:
    """May this payload go when no mail names it? ``grace``: seconds that every payload is left alone."""
    day = parse_day(key)
    since = progress.caught_up_since
    return day is not None and since is not None and since <= day and day + 86_400 <= now - grace


async def sweep_payloads(
    database: Database, store: SweptStore, *, now: int, grace: int, dry_run: bool, is_stopping: Callable[[], bool]
) -> Sweep:
    """Look through the store and delete what nobody needs. Raises Unavailable."""
    async with database.connection() as connection:
        progress = await fetch_progress(connection)
    if refusal := find_refusal(progress, now):
        return Sweep(refusal=refusal)
    deleted = 0
    batch: list[str] = []
    async for key in store.iter_keys(datetime.fromtimestamp(now - grace, UTC)):
        if is_candidate(key, progress, now=now, grace=grace):
            batch.append(key)
        if len(batch) >= BATCH:
            deleted += await _delete_orphans(database, store, batch, progress, dry_run=dry_run)
            batch = []
        if is_stopping():
            return Sweep(deleted)
    deleted += await _delete_orphans(database, store, batch, progress, dry_run=dry_run)
    if not dry_run:
        await store.tidy(datetime.fromtimestamp(now - grace, UTC))
    return Sweep(deleted)


async def _delete_orphans(database: Database, store: SweptStore, keys: list[str], began: Progress, *, dry_run: bool) -> int:
    if not keys:
        return 0
    async with database.connection() as connection:
        if (await fetch_progress(connection)).caught_up_since != began.caught_up_since:
            log.warning("payloads left alone: the recorder fell behind in the meantime")
            return 0
        orphans = await find_orphans(connection, keys)
    if dry_run:
        return len(orphans)
    failures = await store.delete_many(orphans)
    for key in orphans:
        if key in failures:
            log.warning("payload without a mail not deleted", key=key, reason=failures[key])
        else:
            log.info("payload without a mail deleted", key=key)
    SWEPT.inc(len(orphans) - len(failures))
    if failures:
        FAILED.labels("sweep").inc()
    return len(orphans) - len(failures)
