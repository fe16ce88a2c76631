"""Pools of source addresses: over HTTP into Postgres, from there and from a file to the sender, and what holds without Postgres."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.cli.__main__ import call
from services.smtp_sender.pool_book import PoolBook
from services.smtp_sender.settings import ServiceSettings
from services.smtp_sender.sources import Origin, Sources
from shared.delivery.pools import Source
from shared.storage.snapshot import Follower
from shared.trouble import Unavailable
from shared.wire.message import Message
from tests.integration.json_inbox_process import Inbox, run_inbox
from tests.integration.smtp_sender.peers import opened, scripted, target
from tests.stack import Stack
from tests.support.mx import ScriptedMx
from tests.support.waiting import until

POOL: dict[str, Any] = {"name": "bulk/1", "ips": ["127.0.0.5", "127.0.0.6"], "helo": "bulk.example"}
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture(scope="module")
def running(servers: Stack, database_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    """One json-inbox for the whole module."""
    with run_inbox(servers, database_template, tmp_path_factory.mktemp("payloads")) as inbox:
        yield inbox


@pytest.fixture
def inbox(running: Inbox) -> Inbox:
    """The process, with no pools."""
    with psycopg.connect(running.database) as connection:
        connection.execute("DELETE FROM pools")
    return running


@asynccontextmanager
async def following(**settings: Any) -> AsyncIterator[PoolBook]:
    """A book at work, as in the sender."""
    given = ServiceSettings.model_validate(settings)
    book = PoolBook(given)
    follower = Follower(given, book.followed, name="smtp-sender", refresh=given.pools_refresh)
    await follower.load()
    task = asyncio.ensure_future(follower.follow())
    try:
        yield book
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


# --- /v1/pools


def test_pools_are_kept_listed_replaced_and_removed(inbox: Inbox) -> None:
    made = inbox.http.post("/v1/pools", json=POOL)
    assert made.status_code == 201
    where = made.headers["location"]
    assert where == "/v1/pools/bulk%2F1"
    found = inbox.http.get(where).json()
    assert {name: found[name] for name in POOL} == POOL
    assert set(found) == {*POOL, "created_at", "updated_at"}
    assert inbox.http.get("/v1/pools").json() == [found]
    with psycopg.connect(inbox.database) as connection:
        rows = connection.execute("SELECT name, document FROM pools").fetchall()
    assert rows == [("bulk/1", {"ips": POOL["ips"], "helo": "bulk.example"})]

    assert inbox.http.post("/v1/pools", json=found | {"ips": {"127.0.0.7": "seven.example"}}).status_code == 200
    put = inbox.http.put(where, json={"ips": ["2001:db8::1"]})
    assert (put.status_code, put.json()["ips"], "helo" in put.json()) == (200, ["2001:db8::1"], False)
    assert put.json()["created_at"] == found["created_at"]
    assert inbox.http.put("/v1/pools/a-new-one", json={"ips": ["127.0.0.1"]}).status_code == 201
    assert inbox.http.put(where, json=POOL | {"name": "other"}).json()["field"] == "name"
    assert [pool["name"] for pool in inbox.http.get("/v1/pools").json()] == ["a-new-one", "bulk/1"]

    assert inbox.http.delete(where).status_code == 204
    for again in (inbox.http.get(where), inbox.http.delete(where)):
        assert (again.status_code, again.json()["field"]) == (404, "name")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": ".."}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"ips": []}, "ips"),
        ({"ips": "127.0.0.1"}, "ips"),
        ({"ips": None}, "ips"),
        ({"ips": {}}, "ips"),
        ({"ips": ["mail.example"]}, "ips"),
        ({"ips": ["::"]}, "ips"),
        ({"ips": ["127.0.0.1", "127.0.0.1"]}, "ips"),
        ({"ips": [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(257)]}, "ips"),
        ({"ips": {"127.0.0.1": 7}}, "ips"),
        ({"ips": {"127.0.0.1": "a\r\nMAIL FROM:<>"}}, "ips"),
        ({"helo": "a b"}, "helo"),
        ({"helo": "x\r\nRSET"}, "helo"),
        ({"helo": 7}, "helo"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_pool_that_is_wrong_is_refused_by_field(inbox: Inbox, change: dict[str, Any], field: str) -> None:
    answer = inbox.http.post("/v1/pools", json=POOL | change)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert answer.headers["content-type"] == "application/problem+json"
    assert inbox.http.get("/v1/pools").json() == []


def test_they_are_in_the_pages(inbox: Inbox) -> None:
    paths = inbox.http.get("/openapi.json").json()["paths"]
    assert set(paths["/v1/pools"]) == {"get", "post"}
    assert set(paths["/v1/pools/{name}"]) == {"get", "put", "delete"}
    body = paths["/v1/pools"]["post"]["requestBody"]["content"]["application/json"]
    for example in body["examples"].values():
        assert inbox.http.post("/v1/pools", json=example["value"]).status_code == 201
    assert inbox.http.delete("/v1/pools").status_code == 405


# --- mailwarren pools


def test_the_command(database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = call(["pools", *arguments])
        return (code, *capsys.readouterr())

    monkeypatch.setenv("DB_URI", database)
    assert run("list") == (0, "no pools\n", "")
    assert run("add", "bulk", "--ip", "192.0.2.1", "--ip", "192.0.2.2", "--helo", "b.example")[:2] == (0, "added pool 'bulk'\n")
    assert run("add", "news", "--ip", "192.0.2.3=n.example", "--ip", "192.0.2.4")[0] == 0
    shown = [line.split() for line in run("list")[1].splitlines()]
    assert ["bulk", "192.0.2.2", "b.example"] in shown
    assert ["news", "192.0.2.3", "n.example"] in shown
    assert ["news", "192.0.2.4"] in shown
    raw = tmp_path / "pools.json"
    raw.write_text(run("list", "--raw")[1])
    assert json.loads(raw.read_text())[0] == {"name": "bulk", "ips": ["192.0.2.1", "192.0.2.2"], "helo": "b.example"}
    assert run("add", "--file", str(raw))[1] == "replaced pool 'bulk'\nreplaced pool 'news'\n"
    raw.write_text('[{"name": "good", "ips": ["192.0.2.1"]}, {"name": "bad", "ips": ["192.0.2.1"], "colour": "red"}]')
    for wrong, told in (
        (["add", "--file", str(raw)], "pool 2: colour: unknown"),
        (["add", "--file", str(raw), "x"], "not both"),
        (["add"], "NAME is missing"),
        (["add", "x"], "pool: ips: []: expected 1 to 256"),
        (["add", "x", "--ip", "192.0.2.1="], "expected ADDRESS or ADDRESS=NAME"),
        (["add", "x", "--ip", "192.0.2.1=a", "--ip", "192.0.2.1"], "expected each address once"),
        (["add", "x", "--ip", "mail.example"], "expected an IP address"),
    ):
        code, _, error = run(*wrong)
        assert (code, told in error) == (2, True), error
    assert run("remove", "bulk") == (0, "removed pool 'bulk'\n", "")
    assert run("remove", "bulk") == (1, "", "no pool 'bulk'\n")
    assert [pool["name"] for pool in json.loads(run("list", "--raw")[1])] == ["news"]


# --- the sender's view


async def test_a_change_reaches_the_sender_at_once(inbox: Inbox, tmp_path: Path) -> None:
    path = tmp_path / "pools.json"
    async with following(db_uri=inbox.database, pools_snapshot=path) as book:
        assert (await book.find("bulk/1"), book.count) == (None, 0)
        where = inbox.http.post("/v1/pools", json=POOL).headers["location"]

        async def is_there() -> bool:
            return await book.find("bulk/1") is not None

        await until(is_there, within=10)
        found = await book.find("bulk/1")
        assert found is not None
        assert found.sources == (Source("127.0.0.5", "bulk.example"), Source("127.0.0.6", "bulk.example"))
        assert json.loads(path.read_text()) == [POOL]
        inbox.http.delete(where)
        await until(lambda: book.count == 0, within=10)
    assert json.loads(path.read_text()) == []


async def test_the_live_pool_wins_over_that_of_the_file(inbox: Inbox, tmp_path: Path) -> None:
    file = tmp_path / "pools.toml"
    file.write_text('[pool."bulk/1"]\nips = ["127.0.0.9"]\n[pool.mine]\nips = ["127.0.0.9"]\n')
    inbox.http.post("/v1/pools", json=POOL)
    async with following(db_uri=inbox.database, pools_snapshot=tmp_path / "pools.json", pools_file=str(file)) as book:
        live, kept = await book.find("bulk/1"), await book.find("mine")
        assert live is not None
        assert kept is not None
        assert [source.address for source in live.sources] == POOL["ips"]
        assert [source.address for source in kept.sources] == ["127.0.0.9"]
        assert (await book.find("typo"), book.count) == (None, 2)


async def test_without_postgres_the_last_pools_count(inbox: Inbox, tmp_path: Path) -> None:
    path = tmp_path / "pools.json"
    async with following(db_uri=NOWHERE, pools_snapshot=path) as book:
        with pytest.raises(Unavailable, match="the pools were never seen"):
            await book.find("bulk/1")
    inbox.http.post("/v1/pools", json=POOL)
    async with following(db_uri=inbox.database, pools_snapshot=path) as book:
        assert await book.find("bulk/1")
    async with following(db_uri=NOWHERE, pools_snapshot=path) as book:
        assert await book.find("bulk/1")
        assert await book.find("typo") is None


async def test_a_row_that_cannot_be_read_keeps_the_last_pools(inbox: Inbox, tmp_path: Path) -> None:
    inbox.http.post("/v1/pools", json=POOL)
    settings = {"db_uri": inbox.database, "pools_snapshot": tmp_path / "pools.json"}
    async with following(**settings) as book:
        for name, document in (("odd", "7"), ("odder", '{"ips": ["x"]}')):
            with psycopg.connect(inbox.database) as connection:
                connection.execute("INSERT INTO pools VALUES (%s, %s, 0, 0)", (name, document))
        inbox.http.delete("/v1/pools/bulk%2F1")
        given = ServiceSettings.model_validate(settings)
        again = PoolBook(given)
        await Follower(given, again.followed, name="smtp-sender", refresh=given.pools_refresh).load()
        for one in (book, again):
            assert await one.find("bulk/1")
            assert await one.find("odd") is None
        with psycopg.connect(inbox.database) as connection:
            connection.execute("DELETE FROM pools")
        await until(lambda: book.count == 0, within=10)


# --- on the wire


async def test_address_and_name_on_the_wire(tmp_path: Path) -> None:
    """A mail of a pool comes from its addresses, and each says its own name."""
    file = tmp_path / "pools.toml"
    file.write_text('[pool.two.ips]\n"127.0.0.5" = "five.example"\n"127.0.0.6" = "six.example"\n')
    settings = ServiceSettings(pools_file=str(file))
    origin = Origin(settings, PoolBook(settings))
    expected = {"127.0.0.5": "five.example", "127.0.0.6": "six.example"}
    came: set[str | None] = set()
    async with scripted(tmp_path / "mx") as mx:
        for number in range(12):
            sources = await origin.find(Message({"id": f"id-{number}"}), ips=None, pool="two")
            assert isinstance(sources, Sources)
            first = sources.addresses[0]
            session = await opened(target(mx, source=first.address, helo=first.helo))
            came.add(session.local_ip)
            assert (session.local_ip, first.helo) == (first.address, expected[str(first.address)])
            assert _said(mx)[-1] == f"EHLO {first.helo}"
            await session.quit()
        plain = await opened(target(mx))
        assert _said(mx)[-1] == "EHLO me.example"
        await plain.quit()
    assert came == set(expected)
    assert target(mx, helo="a.example") != target(mx, helo="b.example")


def _said(mx: ScriptedMx) -> list[str]:
    return [line.strip() for _, side, line in mx.state.transcript if side == "C"]
