"""Bad input and trouble on the way to a real Postgres: nothing lost, nothing counted twice."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from services.result_recorder.recorder import Recorder
from shared.amqp.frame import Frame
from shared.storage.database import DatabaseSettings
from shared.storage.directory import DirectoryStore
from shared.storage.records import RecordTables
from shared.trouble import Unavailable
from tests.integration.postgres_proxy import CommitCutter, cutting
from tests.support.record_frames import accepted, failure, make_frame, make_mail, make_result, refused, retry, success

_COUNTS = """
    SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM delivery_attempts), (SELECT count(*) FROM message_status)
"""


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[CommitCutter]:
    async with cutting(database) as running:
        yield running


@pytest.fixture
async def recorder(proxy: CommitCutter, tmp_path: Any) -> AsyncIterator[Recorder]:
    tables, store = RecordTables(DatabaseSettings(db_uri=proxy.address)), DirectoryStore(tmp_path)
    yield Recorder(tables, store)
    await tables.close()
    await store.close()


def ask(database: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(query.encode()).fetchall()


def counts(database: str) -> tuple[Any, ...]:
    """Rows of messages, delivery_attempts, message_status."""
    return ask(database, _COUNTS)[0]


def make_lives(count: int) -> list[list[Frame]]:
    """All records of so many mails, mail by mail."""
    lives = []
    for number in range(count):
        mail = make_mail(f"user{number}@example.net")
        end = failure if number % 3 == 0 else success
        last = refused(3, code=550) if number % 3 == 0 else make_result(3)
        lives.append(
            [
                accepted(mail),
                retry(mail, refused(1)),
                retry(mail, refused(1), refused(2)),
                end(mail, refused(1), refused(2), last),
            ]
        )
    return lives


@pytest.mark.parametrize("side", ["before", "after"])
async def test_the_connection_is_cut_during_commit(recorder: Recorder, proxy: CommitCutter, database: str, side: str) -> None:
    """Before: Postgres never hears it. After: all is committed, and nobody is told."""
    mails = [make_mail() for _ in range(20)]
    frames = [*map(accepted, mails), *(success(mail, refused(1), make_result(2)) for mail in mails[:10])]
    proxy.cut_at = side
    with pytest.raises(Unavailable):
        await recorder.handle_batch(frames)
    assert proxy.cuts == 1
    assert counts(database)[2] == (10 if side == "after" else 0)
    assert await recorder.handle_batch(frames) == {}
    assert counts(database) == (10, 0, 10)
    assert [row[0] for row in ask(database, "SELECT jsonb_array_length(results) FROM message_status")] == [2] * 10


async def test_the_second_commit_is_cut(recorder: Recorder, proxy: CommitCutter, database: str) -> None:
    """Statuses are committed, the attempts are not moved yet: the batch comes again and the rest is done."""
    mail = make_mail()
    await recorder.handle_batch([retry(mail, refused(1))])
    frames = [success(mail, make_result(2))]
    proxy.cut_at = "after"
    with pytest.raises(Unavailable):
        await recorder.handle_batch(frames)
    assert counts(database) == (1, 1, 1)
    assert await recorder.handle_batch(frames) == {}
    assert counts(database) == (0, 0, 1)
    assert ask(database, "SELECT jsonb_path_query_array(results, '$[*].attempt') FROM message_status") == [([1, 2],)]


@pytest.mark.parametrize("order", ["reversed", "shuffled"])
async def test_everything_twice_and_out_of_order(recorder: Recorder, database: str, order: str) -> None:
    lives = make_lives(60)
    frames = [frame for life in lives for frame in life] * 2
    if order == "reversed":
        frames.reverse()
    else:
        random.Random(7).shuffle(frames)
    for start in range(0, len(frames), 70):
        assert await recorder.handle_batch(frames[start : start + 70]) == {}
    assert counts(database) == (0, 0, 60)
    verdicts = ask(database, "SELECT status, count(*) FROM message_status GROUP BY 1 ORDER BY 1")
    assert verdicts == [("delivered", 40), ("failed", 20)]
    attempts = ask(database, "SELECT DISTINCT jsonb_path_query_array(results, '$[*].attempt') FROM message_status")
    assert attempts == [([1, 2, 3],)]


async def test_hostile_replies_of_64_kb_among_others(recorder: Recorder, database: str) -> None:
    """NUL, lone surrogates, control bytes, what is no UTF-8, numbers of 30 digits: recorded, and the neighbours too."""
    texts = [
        "\x00" * 1000 + "x" * 64_000,
        "\ud800\udfff\ud83d" * 21_000,
        "\x1b[2J\x7f\x85\r\n" * 8000,
        "\\" * 64_000,
        "ü\t" * 32_000,
    ]
    hostile = []
    for text in texts:
        mail = make_mail("victim@example.net", extracted={"subject": text, "headers": {"message-id": text}}, envelope=text)
        results = [refused(1, code=550, description=text, mta=text, status=text, odd={text: [text, 10**30]})]
        hostile.append(make_frame(json.dumps({**mail, "results": results}).encode(), "failure"))
    broken = json.dumps({**make_mail(), "results": [refused(1, description="caf\xe9")]}, ensure_ascii=False).encode("latin-1")
    good = [success(make_mail()) for _ in range(20)]
    frames = [*good[:10], *hostile, make_frame(broken, "failure"), *good[10:]]
    assert await recorder.handle_batch(frames) == {}
    assert counts(database)[2] == len(frames)
    longest = ask(database, "SELECT max(length(subject)), max(length(sender)), max(length(message_id)) FROM message_status")[0]
    assert max(longest) <= 1024
    # What was told is kept as a whole, but for what Postgres cannot keep.
    (told,) = ask(database, "SELECT max(length(results -> 0 ->> 'description')) FROM message_status")[0:1]
    assert told[0] == 64_000


async def test_what_was_read_ahead_is_recorded_once(recorder: Recorder, database: str) -> None:
    first, second = ([success(make_mail()) for _ in range(40)] for _ in range(2))
    await recorder.read_ahead(first)
    await asyncio.gather(recorder.handle_batch(first), recorder.read_ahead(second))
    assert await recorder.handle_batch(second) == {}
    assert await recorder.handle_batch(second) == {}
    assert counts(database) == (0, 0, 80)
