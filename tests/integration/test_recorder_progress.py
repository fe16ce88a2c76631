"""What result-recorder tells the archiver of itself: a backlog that is young is no break."""

from collections.abc import AsyncIterator

import pytest

from services.archiver.settings import ServiceSettings
from services.result_recorder.lag import Lag
from services.result_recorder.progress import tell_progress
from shared.storage.database import Database
from shared.storage.progress import GAP, Progress, fetch_progress, note_break

START = 1_795_000_000


@pytest.fixture
async def place(database: str) -> AsyncIterator[Database]:
    opened = Database(ServiceSettings(db_uri=database))
    yield opened
    await opened.close()


async def tell(place: Database, lag: Lag, now: int) -> Progress:
    await tell_progress(place, lag, "records", now=now)
    async with place.connection() as connection:
        return await fetch_progress(connection)


async def test_a_long_queue_that_is_young_is_no_break(place: Database) -> None:
    lag = Lag()
    assert await tell(place, lag, START) == Progress(START, START)
    for now in range(START + 15, START + 1000, 15):
        lag.count(50_000, now)
        lag.commit(now - 20, now)
        assert await tell(place, lag, now) == Progress(START, now - 20)


async def test_one_that_is_old_is_a_break_and_the_time_starts_anew_when_it_is_over(place: Database) -> None:
    lag = Lag()
    await tell(place, lag, START)
    lag.count(7, START)
    lag.commit(START - GAP + 15, START)
    assert (await tell(place, lag, START + 10)).caught_up_since == START
    assert (await tell(place, lag, START + 15)).caught_up_since is None
    lag.commit(START + 20, START + 30)
    # Not 20: what was published then may be among what is lost.
    assert await tell(place, lag, START + 30) == Progress(START + 30, START + 20)


async def test_after_a_parked_record_the_time_starts_now_and_not_where_the_records_are(place: Database) -> None:
    lag = Lag()
    await tell(place, lag, START)
    async with place.connection() as connection:
        await note_break(connection, START + 100)
    lag.count(7, START + 110)
    lag.commit(START + 50, START + 110)
    assert await tell(place, lag, START + 110) == Progress(START + 110, START + 50)


async def test_a_recorder_that_dies_before_it_records_anything_is_silent_and_that_becomes_a_break(place: Database) -> None:
    await tell(place, Lag(), START)
    for now in range(START + 15, START + GAP + 30, 15):
        lag = Lag()
        lag.count(7, now)
        assert await tell(place, lag, now) == Progress(START, START)
    now = START + GAP + 30
    assert await tell(place, Lag(), now) == Progress(now, now)
