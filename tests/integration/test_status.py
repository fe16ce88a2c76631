"""What is told about a mail, and the rules' table, against a real Postgres."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from services.archiver.handler import archive_once
from services.archiver.settings import ServiceSettings
from services.result_recorder.recorder import Recorder
from shared.amqp.frame import Frame
from shared.storage.database import Database, DatabaseSettings
from shared.storage.directory import DirectoryStore
from shared.storage.records import RecordTables
from shared.storage.rules_table import TABLE, delete_rule, fetch_rule, fetch_rules, store_rule
from shared.storage.search import find_page, parse_search
from shared.storage.snapshot import listen, wait_for_change
from shared.storage.status import find_message
from shared.trouble import Unavailable
from tests.support.record_frames import accepted, failure, make_mail, make_result, refused, retry, success

Render = Callable[..., Frame]


@pytest.fixture
async def postgres(database: str) -> AsyncIterator[Database]:
    opened = Database(DatabaseSettings(db_uri=database))
    yield opened
    await opened.close()


@pytest.fixture
async def recorder(database: str, tmp_path: Path) -> AsyncIterator[Recorder]:
    tables, store = RecordTables(DatabaseSettings(db_uri=database)), DirectoryStore(tmp_path / "payloads")
    yield Recorder(tables, store)
    await tables.close()
    await store.close()


async def test_every_stage_of_a_mail_is_told(postgres: Database, recorder: Recorder) -> None:
    mail = make_mail()
    async with postgres.connection() as connection:
        assert await find_message(connection, mail["id"]) == []

        await recorder.handle_batch([accepted(mail)])
        (told,) = await find_message(connection, mail["id"])
        assert (told["status"], told["final"], told["attempts"]) == ("accepted", False, [])
        assert (told["recipient"], told["envelope"], told["subject"]) == ("bob@example.net", "alice@example.org", "Hello")
        assert told["nextattempt"] == "2026-11-23 04:00:00"

        await recorder.handle_batch([retry(mail, refused(1))])
        (told,) = await find_message(connection, mail["id"])
        assert (told["status"], told["final"], told["nextattempt"]) == ("deferred", False, "2026-11-23 05:00:00")
        assert told["attempts"] == [
            {
                "attempt": 1, "state": "rcptto", "result": "error", "code": 451, "status": "4.7.1", "description": "greylisted",
                "time": "2026-11-23 04:01:00", "mta": "mx.example.net", "from": "192.0.2.1", "to": "192.0.2.2", "strategy": "smtp",
            }
        ]  # fmt: skip

        await recorder.handle_batch([success(mail, refused(1), make_result(2))])
        (told,) = await find_message(connection, mail["id"])
        assert (told["status"], told["final"], told["nextattempt"]) == ("delivered", True, None)
        assert [attempt["result"] for attempt in told["attempts"]] == ["error", "accepted"]


async def test_accepted_is_when_the_mail_was_taken_and_updated_is_its_last_event(
    postgres: Database, recorder: Recorder, database: str, tmp_path: Path
) -> None:
    one = make_mail("a@example.net", recipients_total=2)
    two = make_mail("b@example.net", recipients_total=2, transaction=one["transaction"])

    async def tell() -> dict[str, tuple[str, str]]:
        async with postgres.connection() as connection:
            told = [*await find_message(connection, one["id"]), *await find_message(connection, two["id"])]
            found = (await find_page(connection, parse_search({"archived": "true"}, datetime.now(UTC)))).messages
        assert {mail["id"]: mail for mail in found} == {mail["id"]: mail for mail in told}
        assert [mail["updated"] for mail in found] == sorted((mail["updated"] for mail in told), reverse=True)
        return {mail["recipient"][0]: (mail["accepted"], mail["updated"]) for mail in told}

    await recorder.handle_batch([accepted(one), accepted(two), retry(one, refused(1)), retry(one, refused(1), refused(2))])
    with psycopg.connect(database, autocommit=True) as connection:
        # As if long ago, one after the other; and the submission's row changed because of the other recipient.
        connection.execute("UPDATE messages SET created_at = 0, updated_at = 90")
        connection.execute("UPDATE delivery_attempts SET created_at = attempt * 10")
        assert await tell() == {"a": ("1970-01-01 00:00:00", "1970-01-01 00:00:20"), "b": ("1970-01-01 00:00:00",) * 2}

        await recorder.handle_batch([failure(one, refused(1), refused(2), refused(3)), success(two)])
        late = "2026-11-23 09:00:00"
        await recorder.handle_batch([success({**one, "seen": late}, make_result(4))])
        connection.execute("UPDATE message_status SET updated_at = 7 WHERE id = %s", [one["id"]])
        store = DirectoryStore(tmp_path / "other")
        await archive_once(postgres, store, ServiceSettings(db_uri=database))
        await store.close()
        told = await tell()
        assert (told["a"], told["b"][0]) == (("2026-11-23 04:00:00", "1970-01-01 00:00:07"), "2026-11-23 04:00:00")
        # What the release before has recorded.
        connection.execute("UPDATE message_status SET accepted_at = NULL")
        connection.execute("UPDATE message_status_archive SET accepted_at = NULL")
        assert {accepted_at for accepted_at, _ in (await tell()).values()} == {None}
        async with postgres.connection() as opened:
            assert len(await find_message(opened, one["extracted"]["headers"]["message-id"])) == 1


async def test_a_message_id_names_all_its_recipients(postgres: Database, recorder: Recorder) -> None:
    one = make_mail("a@example.net", recipients_total=3)
    two, three = (
        make_mail(name, recipients_total=3, transaction=one["transaction"], extracted=one["extracted"])
        for name in ("b@example.net", "c@example.net")
    )
    message_id = one["extracted"]["headers"]["message-id"]
    await recorder.handle_batch([accepted(one), accepted(two), accepted(three), retry(two, refused(1)), failure(three)])
    async with postgres.connection() as connection:
        for name in (message_id, message_id.strip("<>")):
            told = await find_message(connection, name)
            assert {(document["recipient"], document["status"]) for document in told} == {
                ("a@example.net", "accepted"), ("b@example.net", "deferred"), ("c@example.net", "failed"),
            }  # fmt: skip
        (only,) = await find_message(connection, two["id"])
        assert only["recipient"] == "b@example.net"


async def test_an_archived_mail_is_still_found(postgres: Database, recorder: Recorder, database: str, tmp_path: Path) -> None:
    mail = make_mail()
    await recorder.handle_batch([success(mail)])
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE message_status SET updated_at = 1")
    store = DirectoryStore(tmp_path / "other")
    await archive_once(postgres, store, ServiceSettings(db_uri=database))
    await store.close()
    async with postgres.connection() as opened:
        for name in (mail["id"], mail["extracted"]["headers"]["message-id"]):
            (told,) = await find_message(opened, name)
            assert (told["status"], told["archived"] is not None) == ("delivered", True)


@pytest.mark.parametrize(("first", "late"), [(success, failure), (failure, success)])
async def test_delivered_outranks_failed_in_the_archive_too(
    postgres: Database, recorder: Recorder, database: str, tmp_path: Path, first: Render, late: Render
) -> None:
    """A record that came long after its mail was archived stands in ``message_status`` again."""
    mail = make_mail()
    store = DirectoryStore(tmp_path / "payloads")
    for now, render in ((2_000_000_000, first), (2_000_000_001, late)):
        await recorder.handle_batch([render(mail, make_result(1) if render is success else refused(1))])
        with psycopg.connect(database) as connection:
            connection.execute("UPDATE message_status SET updated_at = 1")
        for is_archived in (False, True):
            if is_archived:
                await archive_once(postgres, store, ServiceSettings(db_uri=database), now=now)
            async with postgres.connection() as connection:
                (told,) = await find_message(connection, mail["id"])
            assert told["status"] == ("delivered" if success in (first, render) else "failed")


@pytest.mark.parametrize("name", ["", " ", "a\x00b", "x" * 5000, "\ud800", "'; DROP TABLE messages; --"])
async def test_odd_names_find_nothing(postgres: Database, name: str) -> None:
    async with postgres.connection() as connection:
        assert await find_message(connection, name) == []


async def test_rules_are_kept_in_order_and_changes_are_told(postgres: Database) -> None:
    seal = {"name": "seal", "priority": 20, "configuration": {"params": {"sender": "*@a"}, "outbound": ["seal", "smtp"]}}
    first = {"name": "first", "priority": 10, "configuration": {"params": {}, "outbound": ["smtp"]}}
    async with postgres.connection() as connection, postgres.connection() as listening:
        await listen(listening, TABLE)
        assert not await wait_for_change(listening, timedelta(seconds=0.1))
        assert await store_rule(connection, seal)
        assert await wait_for_change(listening, timedelta(seconds=5))
        assert await store_rule(connection, first)
        assert not await store_rule(connection, seal | {"priority": 5})
        rules = await fetch_rules(connection)
        assert [(rule["name"], rule["priority"]) for rule in rules] == [("seal", 5), ("first", 10)]
        rule = await fetch_rule(connection, "seal")
        assert rule is not None
        assert rule["configuration"] == seal["configuration"]
        assert rule["updated_at"] >= rule["created_at"] > 0
        while await wait_for_change(listening, timedelta(seconds=0.1)):
            pass
        assert await delete_rule(connection, "seal")
        assert await wait_for_change(listening, timedelta(seconds=5))
        assert not await delete_rule(connection, "seal")
        assert await fetch_rule(connection, "seal") is None


async def test_a_pool_gives_no_dead_connection_and_no_more_than_it_may(database: str) -> None:
    pool = Database(DatabaseSettings(db_uri=database, db_pool_size=2), name="pool under test")
    async with pool.connection() as one, pool.connection() as two:
        assert one is not two
        third = asyncio.ensure_future(pool.ping())
        done, _ = await asyncio.wait({third}, timeout=0.2)
        assert not done
    await third
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'pool under test'"
        )
    for _ in range(3):
        await pool.ping()
    await pool.close()


async def test_a_statement_that_takes_too_long_is_unavailable(database: str) -> None:
    pool = Database(DatabaseSettings(db_uri=database))
    with pytest.raises(Unavailable, match="no answer in time"):
        async with pool.connection(within=timedelta(seconds=0.3)) as connection:
            await connection.execute("SELECT pg_sleep(20)")
    await pool.ping()
    await pool.close()
