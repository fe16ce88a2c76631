"""Signs of life for the archiver: since when the recorder has kept up without a break.

The archiver deletes payloads that no mail in Postgres names. That is safe only while everything that was published for the record has
been recorded; a backlog, a silence or a parked record starts the time anew.
"""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from services.result_recorder.metrics import CAUGHT_UP
from shared.log import get_logger
from shared.process import Runtime
from shared.storage.database import Database
from shared.storage.progress import note_progress
from shared.trouble import Unavailable

log = get_logger()

INTERVAL = timedelta(seconds=15)


async def report_progress(
    database: Database, runtime: Runtime, *, queue: str, batch: int, count_waiting: Callable[[], Awaitable[int]]
) -> None:
    """Note every 15 s whether no more than one batch waits in ``queue``, until the process is asked to stop."""
    while not runtime.stopping.is_set():
        try:
            caught_up = await count_waiting() <= batch
            async with database.connection(within=timedelta(seconds=10)) as connection:
                await note_progress(connection, queue, caught_up=caught_up, now=int(time.time()))
            CAUGHT_UP.set(caught_up)
        except Unavailable as error:
            CAUGHT_UP.set(0)
            log.debug("progress not noted", reason=str(error))
        await runtime.pause(INTERVAL)
