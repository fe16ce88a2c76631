"""Pages of mails that were asked for: from the records that the recorder writes, over HTTP and on the command line."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.cli.__main__ import call
from services.result_recorder.recorder import Recorder
from shared.storage.database import Database, DatabaseSettings
from shared.storage.directory import DirectoryStore
from shared.storage.records import RecordTables
from shared.storage.search import WALK, find_page, parse_search
from tests.bench.searching import NOW as NEWEST
from tests.bench.searching import PAGES
from tests.bench.searching_rows import fill_message_status
from tests.integration.json_inbox_process import Inbox, run_inbox
from tests.stack import Stack
from tests.support.pages import find_block, read_blocks, run_block
from tests.support.record_frames import accepted, failure, make_mail, refused, retry, success

FULL = {"class": "quota", "code": 552}


@pytest.fixture
async def postgres(database: str) -> AsyncIterator[Database]:
    opened = Database(DatabaseSettings(db_uri=database))
    yield opened
    await opened.close()


async def record(database: str, folder: Path) -> dict[str, str]:
    """Some mails, one of each kind and some more; recipient → id."""
    tables = RecordTables(DatabaseSettings(db_uri=database))
    recorder = Recorder(tables, DirectoryStore(folder))
    news = {"envelope": "News@shop.example"}
    first = make_mail("new@example.org", recipients_total=2, **news)
    second = make_mail("waits@example.org", recipients_total=2, transaction=first["transaction"], **news)
    good, bad, null = make_mail("Good@Example.org", **news), make_mail("bad@example.org"), make_mail("n@example.net", envelope="")
    waiting = make_mail("later@example.net")
    every = [first, second, good, bad, null, waiting]
    await recorder.handle_batch([*map(accepted, every), success(good), success(null), failure(bad, refused(1, **FULL))])
    await recorder.handle_batch([retry(second, refused(1, **FULL)), retry(waiting, refused(1))])
    await recorder.handle_batch([retry(second, refused(1, **FULL), refused(2, **FULL))])
    await tables.close()
    return {mail["recipient"]: mail["id"] for mail in every}


async def find(database: Database, **given: str) -> list[str]:
    """Recipients on all pages; no mail stands twice."""
    found: list[str] = []
    asked = {name.removesuffix("_"): value for name, value in given.items()}
    while True:
        async with database.connection() as connection:
            page = await find_page(connection, parse_search(asked, datetime.now(UTC)))
        found += [document["recipient"] for document in page.messages]
        if page.next is None:
            break
        asked["cursor"] = page.next
    assert len(found) == len(set(found))
    return found


async def test_mails_are_found_by_what_is_asked(database: str, postgres: Database, tmp_path: Path) -> None:
    await record(database, tmp_path)
    every = {"new@example.org", "waits@example.org", "Good@Example.org", "bad@example.org", "n@example.net", "later@example.net"}
    for limit in ("1", "2", "50"):
        assert set(await find(postgres, limit=limit)) == every
    for given, expected in [
        ({"recipient": "GOOD@example.ORG"}, {"Good@Example.org"}),
        ({"recipient": "later@example.net"}, {"later@example.net"}),
        ({"recipient": "new@Example.org"}, {"new@example.org"}),
        ({"recipient": "*@example.net"}, {"n@example.net", "later@example.net"}),
        ({"destination": "example.net", "status": "deferred"}, {"later@example.net"}),
        ({"sender": "news@SHOP.example"}, {"new@example.org", "waits@example.org", "Good@Example.org"}),
        ({"sender": "*@shop.example", "status": "deferred"}, {"waits@example.org"}),
        ({"sender": "<>"}, {"n@example.net"}),
        ({"status": "accepted"}, {"new@example.org"}),
        ({"status": "deferred"}, {"waits@example.org", "later@example.net"}),
        ({"status": "delivered"}, {"Good@Example.org", "n@example.net"}),
        ({"status": "failed"}, {"bad@example.org"}),
        ({"class_": "quota"}, {"bad@example.org", "waits@example.org"}),
        ({"class_": "quota", "status": "delivered"}, set()),
        ({"until": "1h"}, set()),
        ({"since": "1h", "status": "failed"}, {"bad@example.org"}),
        ({"recipient": "*@example.org", "sender": "*@example.org", "class_": "quota"}, {"bad@example.org"}),
    ]:  # fmt: skip
        assert set(await find(postgres, **given)) == expected, given


async def test_the_newest_stand_first_and_what_comes_in_moves_no_page(database: str, postgres: Database) -> None:
    insert = """
        INSERT INTO message_status (id, transaction, recipients_total, message_id, subject, sender, recipient, status, destination,
            results, created_at, updated_at)
        SELECT 'id' || i, i, 1, 'id' || i, '', '', i || '@example.org', 'delivered', 'example.org', '[]', i / 3, i / 3
        FROM generate_series(%s::int, %s::int) AS i
    """
    seen: list[str] = []
    cursor = ""
    with psycopg.connect(database, autocommit=True) as writing:
        writing.execute(insert, [30, 59])
        for coming in range(60, 100, 10):
            async with postgres.connection() as connection:
                page = await find_page(connection, parse_search({"limit": "10", "cursor": cursor}, datetime.now(UTC)))
            seen += [document["id"] for document in page.messages]
            if page.next is None:
                break
            cursor = page.next
            writing.execute(insert, [coming, coming + 9])
        moments: dict[str, int] = dict(writing.execute("SELECT id, updated_at FROM message_status").fetchall())
    assert sorted(seen) == sorted(f"id{i}" for i in range(30, 60))
    assert seen == sorted(seen, key=lambda ident: (moments[ident], ident), reverse=True)


@pytest.mark.long
async def test_no_page_reads_more_than_it_may(database: str, postgres: Database) -> None:
    """Postgres counts: no page scans the whole table, and none goes through more of an index than it may."""
    fill_message_status(database, 80_000)
    counted = """
        SELECT seq_scan, (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'message_status')
        FROM pg_stat_user_tables WHERE relname = 'message_status'
    """
    with psycopg.connect(database, autocommit=True) as watching:

        async def ask(given: dict[str, str]) -> str | None:
            async with postgres.connection() as connection:
                page = await find_page(connection, parse_search(given, NEWEST))
                await connection.execute("SELECT pg_stat_force_next_flush()")
            return page.next

        for name, given in PAGES.items():
            before = watching.execute(counted).fetchone()
            cursor = await ask(dict(given))
            if cursor:
                await ask({**given, "cursor": cursor})
            after = watching.execute(counted).fetchone()
            assert before is not None
            assert after is not None
            assert after[0] == before[0], f"{name}: the whole table was scanned"
            # Two pages, each walked at most twice; of a second with many mails all are read.
            assert after[1] - before[1] < 5 * WALK, name


# --- over HTTP and on the command line


@pytest.fixture(scope="module")
def inbox(servers: Stack, database_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    with run_inbox(servers, database_template, tmp_path_factory.mktemp("payloads")) as running:
        yield running


def test_pages_and_counters_over_http_and_on_the_command_line(
    inbox: Inbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = asyncio.run(record(inbox.database, tmp_path))
    address: str | None = "/v1/messages?recipient=*@example.org&since=2h&limit=3"
    found: list[dict[str, Any]] = []
    while address:
        answer = inbox.http.get(address)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["messages"]
        address = answer.links["next"]["url"] if "next" in answer.links else None
        assert (page["next"] is None) == (address is None)
    assert {mail["id"] for mail in found} == {
        ident for recipient, ident in ids.items() if recipient.lower().endswith("@example.org")
    }
    for mail in found:
        assert inbox.http.get(f"/v1/messages/{mail['id']}").json() == mail

    for path, field in [
        ("/v1/messages?status=sent", "status"),
        ("/v1/messages?cursor=x", "cursor"),
        ("/v1/messages?recipient=a@b&recipient=c@d", "recipient"),
        ("/v1/messages?from=a@b", "from"),
        ("/v1/counters?by=recipient", "by"),
        ("/v1/counters?since=9999h", "since"),
    ]:
        answer = inbox.http.get(path)
        assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
        assert "expected " in answer.json()["detail"]

    counted = inbox.http.get("/v1/counters?by=destination,status&since=1h").json()
    assert counted["total"] == 3
    assert {"destination": "example.org", "status": "failed", "count": 1} in counted["counters"]

    uri = ["--db-uri", inbox.database]
    assert call(["search", "--status", "failed", *uri]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["updated", "(UTC)", "status", "recipient", "envelope", "code", "class", "description", "id"]
    assert line.split()[2:6] == ["failed", "bad@example.org", "alice@example.org", "552"]
    assert call(["search", "--recipient", "*@example.org", "--limit", "2", "--raw", *uri]) == 0
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 2
    assert call(["search", "--recipient", "nobody@example.org", *uri]) == 1
    assert "no mail meets" in capsys.readouterr().err
    assert call(["search", "--since", "soon", *uri]) == 2
    assert "--since: 'soon': expected a time" in capsys.readouterr().err
    assert call(["counters", "--by", "status", "--since", "24h", *uri]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["status     mails", "delivered  2", "failed     1", "total      3"]
    assert call(["counters", "--by", "weather", *uri]) == 2


def test_the_page_of_the_documentation_can_be_followed(inbox: Inbox, tmp_path: Path) -> None:
    commands = [
        line for block in read_blocks("looking-up.md", "sh") for line in block.text.splitlines() if line.startswith("mailw")
    ]
    assert len(commands) == 8
    for command in commands:
        # 1: no mail was found.
        assert call([*shlex.split(command)[1:], "--db-uri", inbox.database]) <= 1, command
    run_block(find_block("looking-up.md", "curl"), tmp_path, {"HTTP_ADDRESS": str(inbox.http.base_url)})
