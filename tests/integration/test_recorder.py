"""What the recorder leaves in a real Postgres and a real message store."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from services.result_recorder.parsing import MOST_RECORDS
from services.result_recorder.recorder import Recorder
from shared.storage.completion import render_array
from shared.storage.database import DatabaseSettings
from shared.storage.directory import DirectoryStore
from shared.storage.records import RecordTables
from shared.trouble import Unavailable
from tests.integration.recorder_bench import Bench, cleaning
from tests.support.record_frames import accepted, failure, make_frame, make_mail, make_result, refused, retry, success


@pytest.fixture
async def bench(database: str, tmp_path: Path) -> AsyncIterator[Bench]:
    store = DirectoryStore(tmp_path / "payloads")
    tables = RecordTables(DatabaseSettings(db_uri=database))
    async with cleaning(Recorder(tables, store)) as recorder:
        yield Bench(recorder, tables, store, database)
    await tables.close()
    await store.close()


async def test_life_of_a_mail(bench: Bench) -> None:
    mail = make_mail()
    await bench.store_payload(mail)

    assert await bench.record(accepted(mail)) == {}
    (row,) = bench.rows("SELECT * FROM messages")
    assert (row["transaction"], row["status"], row["datafile"]) == (mail["transaction"], "accepted", mail["key"])
    assert row["recipients"][mail["id"]]["recipient"] == "bob@example.net"

    await bench.record(retry(mail, refused(1)))
    await bench.record(retry(mail, refused(1), refused(2), due="2026-11-23 06:00:00"))
    assert bench.rows("SELECT status FROM messages") == [{"status": "deferred"}]
    attempts = bench.rows("SELECT * FROM delivery_attempts ORDER BY attempt")
    assert [(row["attempt"], row["code"], row["from"], row["to"]) for row in attempts] == [
        (1, 451, "192.0.2.1", "192.0.2.2"),
        (2, 451, "192.0.2.1", "192.0.2.2"),
    ]
    due = int(datetime(2026, 11, 23, 6, tzinfo=UTC).timestamp())
    assert [row["next_attempt_at"] for row in attempts] == [None, due]
    assert await bench.has_payload(mail)

    await bench.record(success(mail, refused(1), refused(2), make_result(3)))
    (final,) = bench.rows("SELECT * FROM message_status")
    assert (final["id"], final["status"], final["state"], final["code"]) == (mail["id"], "delivered", "message", 250)
    assert final["results"] == [refused(1), refused(2), make_result(3)]
    assert bench.count("delivery_attempts") == bench.count("messages") == 0
    assert not await bench.has_payload(mail)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
async def test_records_may_come_in_any_order_and_twice(bench: Bench, order: Sequence[int]) -> None:
    mail = make_mail()
    await bench.store_payload(mail)
    frames = [
        accepted(mail),
        retry(mail, refused(1)),
        retry(mail, refused(1), refused(2)),
        success(mail, refused(1), refused(2), make_result(3)),
    ]
    for index in (*order, *order):
        assert await bench.record(frames[index]) == {}
    (final,) = bench.rows("SELECT status, results FROM message_status")
    assert final["status"] == "delivered"
    assert [report["attempt"] for report in final["results"]] == [1, 2, 3]
    assert bench.count("delivery_attempts") == bench.count("messages") == 0
    assert not await bench.has_payload(mail)


async def test_the_same_batch_again_changes_nothing(bench: Bench) -> None:
    under_way, final = make_mail(), make_mail()
    frames = [accepted(under_way), retry(under_way, refused(1)), accepted(final), success(final)]
    await bench.record(*frames)
    query = (
        "SELECT 'm' AS t, xmin::text, transaction AS k FROM messages UNION ALL SELECT 'a', xmin::text, id FROM delivery_attempts"
    )
    query += " UNION ALL SELECT 's', xmin::text, id FROM message_status ORDER BY 1, 3"
    before = bench.rows(query)
    await bench.record(*frames)
    assert bench.rows(query) == before
    assert [row["t"] for row in before] == ["a", "m", "s"]


async def test_an_attempt_is_unique_whoever_tells_it(bench: Bench) -> None:
    mail = make_mail()
    await bench.record(retry(mail, refused(1, description="first")))
    await bench.record(retry(mail, refused(1, description="second lineage")))
    assert bench.rows("SELECT description FROM delivery_attempts") == [{"description": "first"}]


async def test_delivered_outranks_failed_whatever_comes_first(bench: Bench) -> None:
    one, other = make_mail(), make_mail()
    for mail in (one, other):
        frames = [
            failure(mail, refused(1), refused(2, code=550)),
            success(
                mail,
                refused(1),
                make_result(2),
            ),
        ]
        for frame in frames if mail is one else reversed(frames):
            await bench.record(frame)
    rows = bench.rows("SELECT status, state, code, results FROM message_status")
    assert len(rows) == 2
    for row in rows:
        assert (row["status"], row["state"], row["code"]) == ("delivered", "message", 250)
        assert row["results"] == [refused(1), make_result(2)]


async def test_a_late_attempt_of_final_mail_joins_its_results(bench: Bench) -> None:
    mail = make_mail()
    await bench.record(failure(mail, refused(3)))
    await bench.record(retry(mail, refused(1), refused(2)))
    (row,) = bench.rows("SELECT status, results FROM message_status")
    assert row["status"] == "failed"
    assert [report["attempt"] for report in row["results"]] == [1, 2, 3]
    assert bench.count("delivery_attempts") == bench.count("messages") == 0


async def test_the_payload_goes_with_the_last_of_the_recipients(bench: Bench) -> None:
    first = make_mail("a@example.net", recipients_total=3)
    await bench.store_payload(first)
    others = [
        make_mail(name, recipients_total=3, transaction=first["transaction"], key=first["key"])
        for name in ("b@example.net", "c@example.net")
    ]
    mails = [first, *others]
    await bench.record(*map(accepted, mails))
    await bench.record(success(mails[0]), failure(mails[1]))
    assert await bench.has_payload(first)
    assert bench.count("messages") == 1
    await bench.record(retry(mails[2], refused(1)))
    assert await bench.has_payload(first)
    await bench.record(failure(mails[2], refused(1), refused(2)))
    assert not await bench.has_payload(first)
    assert bench.count("messages") == bench.count("delivery_attempts") == 0
    assert bench.count("message_status") == 3


async def test_two_recorders_that_finish_a_submission_together_leave_nothing(bench: Bench) -> None:
    tables = RecordTables(DatabaseSettings(db_uri=bench.database))
    async with cleaning(Recorder(tables, bench.store)) as sibling:
        for _ in range(20):
            one = make_mail("a@example.net", recipients_total=2)
            await bench.store_payload(one)
            two = make_mail("b@example.net", recipients_total=2, transaction=one["transaction"], key=one["key"])
            await asyncio.gather(
                bench.record(accepted(one), retry(one, refused(1)), success(one, refused(1), make_result(2))),
                bench.record_with(sibling, accepted(two), retry(one, refused(1)), failure(two)),
            )
            assert not await bench.has_payload(one)
    assert bench.count("messages") == bench.count("delivery_attempts") == 0
    assert bench.count("message_status") == 40
    await tables.close()


async def test_two_recorders_with_the_same_batch_in_opposite_order_do_not_block_each_other(bench: Bench) -> None:
    tables = RecordTables(DatabaseSettings(db_uri=bench.database))
    sibling = Recorder(tables, bench.store)
    mails = [make_mail() for _ in range(300)]
    frames = [frame for mail in mails for frame in (accepted(mail), retry(mail, refused(1)))]
    async with asyncio.timeout(30):
        for _ in range(3):
            await asyncio.gather(bench.record(*frames), sibling.handle_batch(frames[::-1]))
    assert bench.count("delivery_attempts") == bench.count("messages") == 300
    await tables.close()


async def test_keepmime_keeps_the_payload_for_good(bench: Bench) -> None:
    mail = make_mail(keepmime=True)
    await bench.store_payload(mail)
    await bench.record(accepted(mail))
    await bench.record(success(mail))
    assert await bench.has_payload(mail)
    assert bench.count("messages") == 0
    assert bench.rows("SELECT datafile FROM kept_payloads") == [{"datafile": mail["key"]}]


async def test_mail_of_applications_is_first_seen_at_its_first_attempt(bench: Bench) -> None:
    later, at_once = (make_mail(channel="amqp") for _ in range(2))
    for mail in (later, at_once):
        mail["transaction"] = mail["id"]
    await bench.record(retry(later, refused(1)), success(at_once))
    assert bench.rows("SELECT transaction, channel, status FROM messages") == [
        {"transaction": later["id"], "channel": "amqp", "status": "deferred"}
    ]
    assert bench.rows("SELECT id FROM message_status") == [{"id": at_once["id"]}]


async def test_a_stranger_cannot_get_somebody_elses_payload_deleted(bench: Bench) -> None:
    victim = make_mail()
    await bench.store_payload(victim)
    await bench.record(accepted(victim))
    for event in ("retry", "failure"):
        thief = make_mail(channel="amqp", key=victim["key"], results=[refused(1)])
        await bench.record(make_frame(thief, event))
        await bench.record(failure(thief, refused(1)))
    assert await bench.has_payload(victim)


async def test_a_clients_own_payload_goes_when_publishers_may_name_keys(bench: Bench) -> None:
    mail = make_mail(channel="amqp", key="clients/mail-1", results=[make_result()])
    await bench.store.store(mail["key"], b"content")
    async with cleaning(Recorder(bench.tables, bench.store, client_prefix="clients/")) as recorder:
        assert await bench.record_with(recorder, make_frame(mail, "success")) == {}
    assert not await bench.has_payload(mail)
    assert bench.count("messages") == 0


async def test_hostile_text_is_recorded_clean(bench: Bench) -> None:
    hostile = "a\x00b\x1b[2J\r\nc\ud83d"
    body = make_mail("bob@example.net", envelope="al\x00ice@example.org", extracted={"subject": hostile, "headers": {}})
    body["results"] = [refused(1, description=hostile, mta=hostile, odd={hostile: [hostile]})]
    mail = json.dumps(body).encode()
    assert await bench.record(make_frame(mail, "accepted"), make_frame(mail, "retry"), make_frame(mail, "failure")) == {}
    (row,) = bench.rows("SELECT subject, sender, results FROM message_status")
    assert row["subject"] == "ab[2J  c"
    assert row["sender"] == "alice@example.org"
    assert row["results"][0]["description"] == "ab[2J  c"
    assert row["results"][0]["odd"] == {"ab[2J  c": ["ab[2J  c"]}


async def test_what_cannot_be_recorded_is_named_and_the_rest_is_recorded(bench: Bench) -> None:
    good = [make_mail() for _ in range(9)]
    frames = [success(mail) for mail in good]
    frames.insert(4, make_frame(b"not json", "success"))
    frames.insert(0, make_frame(make_mail(), "retry"))
    reasons = await bench.record(*frames)
    assert set(reasons) == {0, 5}
    assert "without an attempt" in reasons[0]
    assert "not JSON" in reasons[5]
    assert bench.count("message_status") == 9


async def test_data_that_postgres_refuses_park_only_their_record(bench: Bench) -> None:
    # Nothing known passes the cleaning and is refused: so forbid something.
    with psycopg.connect(bench.database) as connection:
        connection.execute("ALTER TABLE message_status ADD CHECK (recipient NOT LIKE 'evil%')")
        connection.execute("ALTER TABLE delivery_attempts ADD CHECK (recipient NOT LIKE 'evil%')")
    frames = [success(make_mail(f"user{number}@example.net")) for number in range(20)]
    frames[7] = success(make_mail("evil7@example.net"))
    frames[8] = retry(make_mail("evil8@example.net"), refused(1))
    frames[15] = success(make_mail("evil15@example.net"))
    reasons = await bench.record(*frames)
    assert set(reasons) == {7, 8, 15}
    assert all("check constraint" in reason for reason in reasons.values())
    assert bench.count("message_status") == 17


async def test_text_too_long_for_an_index_costs_no_record(bench: Bench) -> None:
    words = "".join(chr(0x20000 + number * 37 % 40000) for number in range(1000))
    mail = make_mail(recipient=f"{words}@{words[:400]}", envelope=words)
    assert await bench.record(accepted(mail), failure(mail, refused())) == {}
    assert bench.count("message_status") == 1


async def test_what_is_final_in_the_batch_of_its_acceptance_is_never_under_way(bench: Bench) -> None:
    alone, with_payload, one_of_two = make_mail(), make_mail(), make_mail(recipients_total=2)
    await bench.store_payload(with_payload)
    mails = (alone, with_payload, one_of_two)
    await bench.record(*map(accepted, mails), *map(success, mails))
    assert [row["transaction"] for row in bench.rows("SELECT transaction FROM messages")] == [one_of_two["transaction"]]
    assert not await bench.has_payload(with_payload)
    # Once more, and late: as before.
    await bench.record(accepted(alone))
    await bench.record(success(alone))
    assert bench.count("messages") == 1
    assert bench.count("message_status") == 3


@pytest.mark.parametrize("texts", [[], [""], ["a", "b,c", "{}", " d "], ['"', "\\", 'x\\"y', "NULL", "null"], ["\U0001f600"]])
def test_an_array_is_read_as_it_was_written(database: str, texts: list[str]) -> None:
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT %s::text[]", [render_array(texts)]).fetchone() == (texts,)


async def test_of_a_list_of_records_all_but_the_bad_ones_are_recorded(bench: Bench) -> None:
    mails = [make_mail() for _ in range(2 * MOST_RECORDS)]
    bad = make_mail(id="x" * 256)
    lists = [make_frame(json.dumps(mails[start : start + 20]).encode(), "accepted") for start in range(0, len(mails), 20)]
    lists[7] = make_frame(json.dumps([*mails[140:160], bad]).encode(), "accepted")
    assert await bench.record(*lists) == {
        7: f"record 21 of 21: id: '{'x' * 79}: expected a text of 1 to 255 printable characters"
    }
    assert bench.count("messages") == len(mails)
    assert await bench.record(*lists[:2]) == {}
    assert bench.count("messages") == len(mails)


async def test_a_parked_record_ends_being_caught_up(bench: Bench) -> None:
    with psycopg.connect(bench.database) as connection:
        connection.execute("INSERT INTO recorder_progress VALUES ('records', 5, 5, 5)")
    await bench.record(success(make_mail()))
    assert bench.rows("SELECT caught_up_since FROM recorder_progress") == [{"caught_up_since": 5}]
    await bench.record(make_frame(b"not json", None))
    assert bench.rows("SELECT caught_up_since FROM recorder_progress") == [{"caught_up_since": None}]


async def test_a_store_that_is_down_is_left_to_the_sweep(bench: Bench, tmp_path: Path) -> None:
    class Down(DirectoryStore):
        async def delete_many(self, keys: Collection[str]) -> Mapping[str, str]:
            raise Unavailable("the store is down")

    mail = make_mail()
    await bench.store_payload(mail)
    store = Down(tmp_path / "payloads")
    async with cleaning(Recorder(bench.tables, store)) as recorder:
        assert await bench.record_with(recorder, accepted(mail), success(mail)) == {}
    await store.close()
    assert bench.count("messages") == 0
    assert await bench.has_payload(mail)


async def test_a_database_without_tables_is_unavailable(empty_database: str, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "payloads")
    recorder = Recorder(RecordTables(DatabaseSettings(db_uri=empty_database)), store)
    with pytest.raises(Unavailable, match="mailwarren migrate"):
        await recorder.handle_batch([success(make_mail())])
    await store.close()


async def test_a_read_only_database_is_unavailable(bench: Bench) -> None:
    with psycopg.connect(bench.database, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
    with pytest.raises(Unavailable, match="read-only"):
        await bench.record(success(make_mail()))


async def test_a_cut_connection_is_unavailable_and_the_same_batch_may_come_again(bench: Bench) -> None:
    mail = make_mail()
    await bench.record(success(mail))
    with psycopg.connect(bench.database, autocommit=True) as connection:
        connection.execute(
            """
            SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE application_name = 'result-recorder' AND datname = current_database()
            """
        )
    other = make_mail()
    with pytest.raises(Unavailable):
        await bench.record(success(mail), success(other))
    assert await bench.record(success(mail), success(other)) == {}
    assert bench.count("message_status") == 2


async def test_a_database_that_does_not_answer_is_unavailable_in_time(bench: Bench) -> None:
    settings = DatabaseSettings(db_uri=bench.database, db_statement_timeout=timedelta(seconds=1))
    tables = RecordTables(settings)
    recorder = Recorder(tables, bench.store)
    await recorder.handle_batch([success(make_mail())])
    with psycopg.connect(bench.database) as connection:
        connection.execute("LOCK TABLE message_status IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(15):
            with pytest.raises(Unavailable):
                await recorder.handle_batch([success(make_mail())])
    await recorder.handle_batch([success(make_mail())])
    assert bench.count("message_status") == 2
    await tables.close()
