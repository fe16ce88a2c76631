"""Signs of life for the archiver: since when the recorder has kept up without a break.

The archiver deletes payloads that no mail in Postgres names. That is safe when every record that was published since the payload was
written, up to a moment close to now, has been recorded. So it is told two moments, and believes them together:

- ``recorded until``: all that was published before has been recorded. The queue is read in its order, so this is when the newest
  recorded one happened (``Lag``), or now when nothing waits. How many wait says nothing: on a busy system thousands do, for a second.
- ``caught up since``: at all times since then the first was less than GAP behind, and no record was parked. When it starts anew it
  starts now, not where the records are: what was published before may be among what was lost.

A record published between the two is in Postgres; one published after the first is younger than GAP, or will be soon. Payloads are left
alone for 24 hours longer than any mail lives, which is far more than GAP, a record's wait for Postgres in ``wait.30s``, and any
difference between clocks of ours: one that is ahead hides lag by as much.

Nothing is said while it is not known how far the records are: something waits, and nothing was recorded since that was seen. A process
that dies again and again before it has recorded anything is in that state all the time, and its silence becomes the break.
"""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from services.result_recorder.lag import Lag
from services.result_recorder.metrics import CAUGHT_UP
from shared.log import get_logger
from shared.process import Runtime
from shared.storage.database import Database
from shared.storage.progress import GAP, note_progress
from shared.trouble import Unavailable

log = get_logger()

INTERVAL = timedelta(seconds=15)


async def report_progress(
    database: Database, runtime: Runtime, lag: Lag, *, queue: str, batch: int, count_waiting: Callable[[], Awaitable[int]]
) -> None:
    """Note every 15 s how far the records are, until the process is asked to stop. ``count_waiting``: of ``queue``, tells ``lag``."""
    while not runtime.stopping.is_set():
        try:
            waiting = await count_waiting()
            await tell_progress(database, lag, queue, now=time.time())
            CAUGHT_UP.set(waiting <= batch)
        except Unavailable as error:
            CAUGHT_UP.set(0)
            log.debug("progress not noted", reason=str(error))
        await runtime.pause(INTERVAL)


async def tell_progress(database: Database, lag: Lag, queue: str, *, now: float) -> None:
    """Note it once, if it is known. Raises Unavailable."""
    behind = lag.read(now)
    if behind < GAP and not lag.is_known:
        return
    async with database.connection(within=timedelta(seconds=10)) as connection:
        await note_progress(connection, queue, caught_up=behind < GAP, until=int(now - behind), now=int(now))
