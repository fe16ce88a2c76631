"""Endpoints of webhooks in ``/v1/webhooks`` and ``mailwarren webhooks``: kept, shown without their secret, their state changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import orjson
import psycopg
import pytest

from services.cli.__main__ import call
from shared.storage.database import Connection, DatabaseSettings, connect
from shared.storage.webhooks import clear_failing, disable_endpoint, disable_failing, enable_endpoint, mark_failing
from tests.integration.json_inbox_process import Inbox

T = TypeVar("T")
HOOK: dict[str, Any] = {"name": "shop", "url": "https://shop.example/hook?k=1", "events": ["delivered", "failed"], "tags": ["a"]}
OWN = "whsec_" + "QUJD" * 10
NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)


@pytest.fixture
def inbox(running: Inbox) -> Inbox:
    """The process, with no webhooks."""
    with psycopg.connect(running.database) as connection:
        connection.execute("DELETE FROM webhooks")
    return running


def row(database: str, name: str = "shop") -> dict[str, Any]:
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT document FROM webhooks WHERE name = %s", [name]).fetchone()
    assert found is not None
    document: dict[str, Any] = found[0]
    return document


def test_the_secret_is_shown_once(inbox: Inbox) -> None:
    made = inbox.http.post("/v1/webhooks", json=HOOK)
    assert (made.status_code, made.headers["location"]) == (201, "/v1/webhooks/shop")
    secret = made.json()["secret"]
    assert row(inbox.database)["secret"] == secret
    shown = inbox.http.get("/v1/webhooks/shop").json()
    assert shown == {**HOOK, "enabled": True} | {name: made.json()[name] for name in ("created_at", "updated_at")}
    assert inbox.http.get("/v1/webhooks").json() == [shown]
    # Put back as it was shown, it stays as it is, secret and all.
    again = inbox.http.put("/v1/webhooks/shop", json=shown)
    assert (again.status_code, again.json()["tags"], "secret" in again.json()) == (200, ["a"], False)
    assert row(inbox.database)["secret"] == secret
    other = inbox.http.put("/v1/webhooks/shop", json={"url": HOOK["url"], "secret": OWN})
    assert (other.status_code, "secret" in other.json(), "tags" in other.json()) == (200, False, False)
    assert row(inbox.database)["secret"] == OWN
    assert inbox.http.put("/v1/webhooks/shop", json=HOOK | {"name": "x"}).json()["field"] == "name"
    assert inbox.http.delete("/v1/webhooks/shop").status_code == 204
    for answer in (inbox.http.get("/v1/webhooks/shop"), inbox.http.delete("/v1/webhooks/shop")):
        assert (answer.status_code, answer.json()["field"]) == (404, "name")
    assert secret not in inbox.process.log
    assert OWN not in inbox.process.log


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": "https://me:secret@shop.example/"}, "url"),
        ({"events": ["opened"]}, "events"),
        ({"secret": "hunter2"}, "secret"),
        ({"enabled": "no"}, "enabled"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_is_refused_by_field(inbox: Inbox, change: dict[str, Any], field: str) -> None:
    answer = inbox.http.post("/v1/webhooks", json=HOOK | change)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert "hunter2" not in answer.text
    assert inbox.http.get("/v1/webhooks").json() == []


def test_enabled_is_said_over_http_too(inbox: Inbox) -> None:
    inbox.http.post("/v1/webhooks", json=HOOK)
    off = inbox.http.put("/v1/webhooks/shop", json=HOOK | {"enabled": False}).json()
    assert (off["enabled"], off["reason"]) == (False, "by hand")
    assert inbox.http.put("/v1/webhooks/shop", json=HOOK).json()["disabled_at"] == off["disabled_at"]
    on = inbox.http.put("/v1/webhooks/shop", json=HOOK | {"enabled": True}).json()
    assert {"disabled_at", "reason"}.isdisjoint(on)


def test_what_failures_do_to_it(inbox: Inbox) -> None:
    """The statements that several processes run at once."""
    inbox.http.post("/v1/webhooks", json=HOOK)
    settings, day = DatabaseSettings(db_uri=inbox.database), timedelta(days=1)

    def do(change: Callable[[Connection], Awaitable[T]]) -> T:
        async def run() -> T:
            connection = await connect(settings)
            async with connection:
                return await change(connection)

        return asyncio.run(run())

    assert do(lambda one: mark_failing(one, "shop", "it answered 500", NOW))
    assert not do(lambda one: mark_failing(one, "shop", "later", NOW + timedelta(hours=1)))
    assert row(inbox.database)["failing_since"] == "2026-11-23 04:00:00"
    assert not do(lambda one: disable_failing(one, "shop", "over", day, NOW + day - timedelta(seconds=1)))
    assert do(lambda one: clear_failing(one, "shop", NOW))
    assert not do(lambda one: clear_failing(one, "shop", NOW))
    assert not do(lambda one: disable_failing(one, "shop", "over", day, NOW + day))
    do(lambda one: mark_failing(one, "shop", "it answered 500", NOW))
    assert do(lambda one: disable_failing(one, "shop", "over", day, NOW + day))
    assert not do(lambda one: disable_endpoint(one, "shop", "again", NOW))
    assert (row(inbox.database)["enabled"], row(inbox.database)["reason"]) == (False, "over")
    assert do(lambda one: enable_endpoint(one, "shop", NOW))
    assert {"disabled_at", "reason", "failing_since"}.isdisjoint(row(inbox.database))
    assert not do(lambda one: enable_endpoint(one, "nobody", NOW))


def test_the_command(database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = call(["webhooks", *arguments])
        return (code, *capsys.readouterr())

    monkeypatch.setenv("DB_URI", database)
    assert run("list") == (0, "no webhooks\n", "")
    code, secret, told = run("add", "shop", "--url", HOOK["url"], "--event", "failed", "--tag", "a")
    assert (code, told) == (0, "added webhook 'shop'; its secret, this is the only time that it is shown:\n")
    assert row(database) == {
        "url": HOOK["url"], "events": ["failed"], "tags": ["a"], "enabled": True, "secret": secret.strip(),
    }  # fmt: skip
    assert run("add", "shop", "--url", HOOK["url"]) == (0, "", "replaced webhook 'shop'\n")
    own = tmp_path / "secret"
    own.write_text(OWN + "\n")
    assert run("add", "other", "--url", "https://127.0.0.1/", "--secret-file", str(own)) == (0, "", "added webhook 'other'\n")
    assert row(database, "other")["secret"] == OWN
    assert [one["name"] for one in orjson.loads(run("list", "--raw")[1])] == ["other", "shop"]
    assert OWN not in run("list", "--raw")[1] + run("list")[1]
    assert run("disable", "shop", "--reason", "moving") == (0, "disabled webhook 'shop'\n", "")
    assert run("disable", "shop") == (1, "", "no enabled webhook 'shop'\n")
    [shown] = [line for line in run("list")[1].splitlines() if line.startswith("shop")]
    assert shown.rstrip().endswith(": moving")
    assert run("replay", "shop", "--since", "24h")[2].startswith("mailwarren: webhook 'shop' is disabled")
    assert run("enable", "shop") == (0, "enabled webhook 'shop'\n", "")
    assert run("replay", "shop", "--since", "24h", "--dry-run") == (0, "would replay 0 events to 'shop'\n", "")
    for wrong, code, told in (
        (["add", "a/b", "--url", "https://o.example/"], 2, "webhook: name: 'a/b'"),
        (["add", "x", "--url", "gopher://o.example/"], 2, "webhook: url: not one that is posted to"),
        (["replay", "shop", "--since", "yesterday"], 2, "--since 'yesterday'"),
        (["enable", "nobody"], 1, "no webhook 'nobody'"),
        (["test", "nobody"], 1, "no webhook 'nobody'"),
        (["replay", "nobody", "--since", "1h"], 1, "no webhook 'nobody'"),
    ):
        found, _, error = run(*wrong)
        assert (found, told in error) == (code, True), error
    assert run("test", "other")[:2] == (1, "other: failed: 127.0.0.1 leads to private addresses, or ours, only\n")
    assert run("remove", "shop") == (0, "removed webhook 'shop'\n", "")
