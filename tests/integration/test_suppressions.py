"""Suppressions: over HTTP and the command into Postgres, from there to the sender, and what holds without Postgres."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.smtp_sender.settings import ServiceSettings
from shared.delivery.suppressions import Held
from shared.storage.snapshot import Follower
from shared.storage.stop_book import StopBook, SuppressionTable
from shared.trouble import Unavailable
from tests.integration.stopping import Command, Desk, metric
from tests.integration.world import MIME
from tests.stack import Stack
from tests.support.background import Background
from tests.support.mx import ScriptedMx
from tests.support.queues import Queues
from tests.support.waiting import until, wait_until

PATH = "/v1/suppressions"
BOB = {"name": "bob@example.org", "reason": "unsubscribed", "expires": "2030-01-01 00:00:00"}
MANY = 100_000
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


# --- /v1/suppressions


def test_they_are_kept_listed_replaced_and_removed(desk: Desk) -> None:
    made = desk.http.post(PATH, json=BOB | {"name": '"Bob"@Example.ORG'})
    assert (made.status_code, made.headers["location"]) == (201, "/v1/suppressions/bob%40example.org")
    assert {name: made.json()[name] for name in BOB} == BOB
    assert set(made.json()) == {*BOB, "created_at", "updated_at"}
    assert desk.http.get(PATH).json() == [made.json()]
    assert desk.http.post(PATH, json={"name": "BOB@example.org"}).status_code == 200
    assert desk.http.get(f"{PATH}/BOB@example.org").json()["name"] == "bob@example.org"
    for name, kept in (
        ("a/b%c@example.org", "a/b%c@example.org"),
        ("*.Example.net", "*.example.net"),
        ("@example.com", "example.com"),
    ):
        where = desk.http.post(PATH, json={"name": name}).headers["location"]
        assert desk.http.get(where).json()["name"] == kept
        assert desk.http.put(where, json={"reason": "why"}).json()["reason"] == "why"
        assert desk.http.delete(where).status_code == 204
        assert desk.http.get(where).status_code == 404
    assert desk.http.put(f"{PATH}/Ann@example.org", json={"name": "ann@Example.org"}).status_code == 201
    assert desk.http.put(f"{PATH}/ann@example.org", json=BOB).json()["field"] == "name"
    assert [one["name"] for one in desk.http.get(PATH).json()] == ["ann@example.org", "bob@example.org"]
    for gone in (desk.http.delete(f"{PATH}/nobody"), desk.http.get(f"{PATH}/%2F..")):
        assert (gone.status_code, gone.json()["field"]) == (404, "name")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "bob"} | {"name": "bob @example.org"}, "name"),
        ({"reason": "x"}, "name"),
        (BOB | {"expires": "tomorrow"}, "expires"),
        (BOB | {"reason": "a\x00b"}, "reason"),
        (BOB | {"colour": "red"}, "colour"),
        ([BOB, "ann@example.org", 7], "a suppression"),
        ([BOB, {"name": "*"}], "name"),
    ],
    ids=["name", "no name", "expires", "reason", "unknown", "a number in a list", "a wrong one in a list"],
)
def test_what_is_wrong_is_refused_by_field_and_nothing_is_kept(desk: Desk, body: Any, field: str) -> None:
    answer = desk.http.post(PATH, json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert answer.headers["content-type"] == "application/problem+json"
    assert desk.http.get(PATH).json() == []
    if isinstance(body, list):
        [error] = answer.json()["errors"]
        assert (error["index"], error["field"]) == (len(body) - 1, field)


def test_a_body_that_is_no_document(desk: Desk) -> None:
    assert desk.http.post(PATH, content=b"[", headers={"Content-Type": "application/json"}).status_code == 400
    assert desk.http.post(PATH, json=7).status_code == 400
    assert desk.http.post(PATH, content=b"{}", headers={"Content-Type": "application/x-ndjson"}).status_code == 415
    assert desk.http.delete(PATH).status_code == 405


def test_a_hundred_thousand_in_one_request(desk: Desk) -> None:
    names = [f"user{number}@example.org" for number in range(MANY)]
    assert desk.http.post(PATH, json=names).json() == {"added": MANY, "replaced": 0}
    again = [*names[:10], "new@example.org", "NEW@example.org"]
    assert desk.http.post(PATH, json=again).json() == {"added": 2, "replaced": 10}
    listed = desk.http.get(PATH).json()
    assert len(listed) == MANY + 1
    assert {one["name"] for one in listed} == {*names, "new@example.org"}
    wait_until(lambda: metric(desk.world.stack, "stops_suppressions") == MANY + 1, within=20)


def test_they_are_in_the_pages(desk: Desk) -> None:
    paths = desk.http.get("/openapi.json").json()["paths"]
    for path in ("/v1/suppressions", "/v1/pauses", "/v1/errors"):
        assert set(paths[path]) == {"get", "post"}
        assert set(paths[path + "/{name}"]) == {"get", "put", "delete"}
        for example in paths[path]["post"]["requestBody"]["content"]["application/json"]["examples"].values():
            assert desk.http.post(path, json=example["value"]).status_code in (200, 201)
    desk.clear()


# --- mailwarren suppressions


def test_the_command(database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setenv("DB_URI", database)
    run = Command(capsys)
    assert run("suppressions", "list") == (0, "no suppressions\n", "")
    added = run("suppressions", "add", "Bob@example.org", "*.example.net", "--reason", "why", "--for", "1h")
    assert added == (0, "added suppression 'bob@example.org'\nadded suppression '*.example.net'\n", "")
    heads, *rows = run("suppressions", "list")[1].splitlines()
    assert heads.split() == ["name", "expires", "(UTC)", "reason"]
    assert sorted(row.split()[0] for row in rows) == ["*.example.net", "bob@example.org"]
    assert all(row.endswith("why") for row in rows)

    file = tmp_path / "list.txt"
    file.write_text("# exported\nann@example.org\n\n @example.com \n" + "".join(f"u{n}@example.org\n" for n in range(30)))
    assert run("suppressions", "add", "--file", str(file), "--reason", "list")[1] == "added 32, replaced 0 suppressions\n"
    raw = tmp_path / "list.json"
    raw.write_text(run("suppressions", "list", "--raw")[1])
    documents = {one["name"]: one for one in json.loads(raw.read_text())}
    assert len(documents) == 34
    assert documents["example.com"] == {"name": "example.com", "reason": "list"}
    assert set(documents["bob@example.org"]) == {"name", "reason", "expires"}
    assert run("suppressions", "add", "--file", str(raw))[1] == "added 0, replaced 34 suppressions\n"

    file.write_text("ann@example.org\nemail\n")
    for wrong, told in (
        (["add"], "NAME is missing"),
        (["add", "x", "--file", str(file)], "not both"),
        (["add", "--file", str(file)], "line 2: 'email': expected an address or a domain"),
        (["add", "*"], "suppression: name: '*': expected an address"),
        (["add", "x@y.example", "--for", "soon"], "--for 'soon': expected seconds"),
        (["add", "x@y.example", "--for", "99999999h"], "--for '99999999h':"),
    ):
        code, _, error = run("suppressions", *wrong)
        assert (code, told in error) == (2, True), error
    assert run("suppressions", "remove", "BOB@example.org", "nobody@example.org") == (
        1, "removed suppression 'bob@example.org'\n", "no suppression 'nobody@example.org'\n",
    )  # fmt: skip


# --- the sender


def test_suppressed_mail_fails_without_an_attempt_until_it_is_removed(desk: Desk) -> None:
    recipient = "ok+suppressed@x.example"
    before = metric(desk.world.stack, "suppressed_messages_total")
    where = desk.add(PATH, {"name": recipient.upper(), "reason": "unsubscribed"})
    # Neither `force` nor the next strategy of a chain nor a time to come makes a difference.
    token = desk.world.publish(recipient, force=True, outbound=["seal"], nextattempt={"time": "2099-01-01 00:00:00"})
    document = desk.world.result("failures", token)
    [attempt] = document["results"]
    assert (attempt["state"], attempt["result"], attempt["code"], attempt["status"]) == ("suppression", "error", 554, "5.7.1")
    assert attempt["description"] == "The recipient is on the suppression list: unsubscribed"
    assert not {"to", "from", "mta"} & set(attempt)
    [record] = desk.world.wait_for("records", token)
    assert record.headers["event"] == "failure"
    assert metric(desk.world.stack, "suppressed_messages_total") == before + 1
    assert desk.world.queues.count("seal") == 0

    desk.remove(where)
    assert desk.world.result("success", desk.world.publish(recipient))["results"][0]["code"] == 250
    assert len(desk.world.delivered(recipient)) == 1


def test_domains_and_entries_that_are_over(desk: Desk) -> None:
    desk.add(PATH, ["*.x.example", {"name": "x.example", "expires": "2020-01-01 00:00:00"}])
    assert desk.world.result("failures", desk.world.publish("a@sub.x.example"))["results"][0]["state"] == "suppression"
    assert desk.world.result("success", desk.world.publish("ok+over@x.example"))
    desk.add(PATH, ["x.example", "more.example"])
    assert desk.world.result("failures", desk.world.publish("ok+over@x.example"))["results"][0]["state"] == "suppression"


# --- the sender's view


@asynccontextmanager
async def following(table: SuppressionTable, database: str) -> AsyncIterator[None]:
    settings = ServiceSettings(db_uri=database)
    follower = Follower(settings, [table], name="smtp-sender", refresh=settings.pools_refresh)
    await follower.load()
    task = asyncio.ensure_future(follower.follow())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_changes_are_read_one_by_one(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "suppressions.jsonl"
    table = SuppressionTable(path)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO suppressions SELECT 'u' || n || '@a.example', '{}', 0, 0 FROM generate_series(1, 12000) n"
        )
        async with following(table, database):
            assert len(table.items) == 12_000
            # Only once it listens are notices kept; the first change shows that it does.
            connection.execute("""INSERT INTO suppressions VALUES ('x@a.example', '{"reason": "r"}', 1, 1)""")
            await until(lambda: table.items.get("x@a.example") == Held("r"), within=10)
            whole = table.items
            connection.execute("""UPDATE suppressions SET document = '{"reason": "s"}' WHERE name = 'x@a.example'""")
            await until(lambda: table.items.get("x@a.example") == Held("s"), within=5)
            connection.execute("UPDATE suppressions SET name = 'y@a.example' WHERE name = 'x@a.example'")
            await until(lambda: "y@a.example" in table.items and "x@a.example" not in table.items, within=5)
            connection.execute("DELETE FROM suppressions WHERE name IN ('y@a.example', 'u1@a.example', 'nobody')")
            await until(lambda: len(table.items) == 11_999, within=5)
            assert table.items is whole, "all was read again"
            for name, document in (("Odd@a.example", "{}"), ("odd@a.example", '{"expires": "soon"}')):
                connection.execute("INSERT INTO suppressions VALUES (%s, %s, 0, 0)", (name, document))
            connection.execute("INSERT INTO suppressions VALUES ('z@a.example', '{}', 2, 2)")
            await until(lambda: "z@a.example" in table.items, within=5)
            assert len(table.items) == 12_000
            connection.execute("DELETE FROM suppressions WHERE name LIKE 'u%'")
            await until(lambda: list(table.items) == ["z@a.example"], within=5)
            assert table.items is not whole
            connection.execute("TRUNCATE suppressions")
            await until(lambda: not table.items, within=5)
            await until(lambda: path.read_text() == "", within=5)


async def test_a_change_without_a_notice_is_found(database: str, tmp_path: Path) -> None:
    table = SuppressionTable(tmp_path / "suppressions.jsonl")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO suppressions VALUES ('a@a.example', '{}', 5, 5)")
        settings = ServiceSettings.model_validate({"db_uri": database, "pools_refresh": 0.2})
        follower = Follower(settings, [table], name="smtp-sender", refresh=settings.pools_refresh)
        await follower.load()
        task = asyncio.ensure_future(follower.follow())
        connection.execute("ALTER TABLE suppressions DISABLE TRIGGER USER")
        connection.execute("INSERT INTO suppressions VALUES ('b@a.example', '{}', 5, 5)")
        await until(lambda: "b@a.example" in table.items, within=5)
        connection.execute("""UPDATE suppressions SET document = '{"reason": "r"}', updated_at = 6 WHERE name = 'a@a.example'""")
        await until(lambda: table.items["a@a.example"] == Held("r"), within=5)
        connection.execute("DELETE FROM suppressions WHERE name = 'a@a.example'")
        await until(lambda: list(table.items) == ["b@a.example"], within=5)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_tables_that_are_not_there_leave_the_others_in_force(database: str, tmp_path: Path) -> None:
    """An older schema: what needs the missing table is held, until `mailwarren migrate` has been run."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE errors RENAME TO elsewhere")
        connection.execute("""INSERT INTO pauses VALUES ('p', '{"tag": "x"}', 0, 0)""")
        settings = ServiceSettings.model_validate({"db_uri": database, "stops_snapshot": tmp_path})
        book = StopBook(settings)
        follower = Follower(settings, book.followed, name="smtp-sender", refresh=settings.pools_refresh)
        await follower.load()
        with pytest.raises(Unavailable, match="the forced errors were never seen"):
            book.current()
        task = asyncio.ensure_future(follower.follow())
        connection.execute("ALTER TABLE elsewhere RENAME TO errors")

        def is_known() -> bool:
            with suppress(Unavailable):
                return [pause.name for pause in book.current().pauses.entries] == ["p"]
            return False

        await until(is_known, within=10)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# --- without Postgres


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Stack, ScriptedMx]]:
    """Servers that may be stopped."""
    with Background() as background:
        mx = background.enter(ScriptedMx(tmp_path / "ledger"))
        settings = {"SMTP_SINK_ADDRESS": f"{mx.host}:{mx.port}", "HOLD_TIME": "0.1"}
        with Stack(settings, services=("json-inbox", "smtp-sender")) as stack:
            yield stack, mx


@pytest.mark.long
def test_without_postgres_the_last_list_counts(own: tuple[Stack, ScriptedMx], tmp_path: Path) -> None:
    stack, mx = own
    queues = Queues(stack.env["RABBITMQ_ADDRESS"])

    def publish(recipient: str) -> None:
        queues.publish({"recipient": recipient, "mime": MIME}, exchange="outbox")

    def assert_obeyed(name: str) -> None:
        publish("bob@example.org")
        [failed] = wait_until(lambda: queues.take("failures"), within=20)
        assert failed.document["results"][0]["state"] == "suppression"
        publish(f"ok+{name}@example.org")
        wait_until(lambda: [mail for mail in mx.ledger.mails() if mail.recipient == f"ok+{name}@example.org"], within=20)

    stack.run_command(["suppressions", "add", "bob@example.org"], DB_URI=stack.env["DB_URI"])
    wait_until(lambda: metric(stack, "stops_suppressions") == 1, within=5)
    stack.stop("postgres")
    assert_obeyed("from-memory")
    stack.restart("smtp-sender")
    assert_obeyed("from-disk")
    assert metric(stack, "stops_suppressions_fresh") == 0

    # Never seen: nobody is sent what he must not get, and nothing is counted against the mail.
    stack.stop("smtp-sender")
    stack.start("smtp-sender", STOPS_SNAPSHOT=str(tmp_path / "nothing-there"))
    publish("ok+held@example.org")
    wait_until(lambda: queues.count("wait.30s") == 1, within=20)
    stack.start("postgres")
    wait_until(lambda: metric(stack, "stops_suppressions_fresh") == 1, within=20)
    assert_obeyed("again")
    wait_until(lambda: any(mail.recipient == "ok+held@example.org" for mail in mx.ledger.mails()), within=60)
