"""Pauses: over HTTP and the command into Postgres, from there to the sender, where mail waits without an attempt."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.wire.times import parse_time, render_time
from tests.integration.stopping import Command, Desk, metric
from tests.support.waiting import wait_until

PATH = "/v1/pauses"
PAUSE = {"name": "spring at x/y", "destination": "*.example", "tag": "spring", "pool": "bulk", "reason": "complaints"}
AWAY = 20
"""Seconds within which mail that waits for 5 s comes back on a busy host."""


# --- /v1/pauses


def test_they_are_kept_listed_replaced_and_removed(desk: Desk) -> None:
    made = desk.http.post(PATH, json=PAUSE | {"expires": "2030-01-01 00:00:00"})
    where = made.headers["location"]
    assert (made.status_code, where) == (201, "/v1/pauses/spring%20at%20x%2Fy")
    assert set(made.json()) == {*PAUSE, "expires", "created_at", "updated_at"}
    assert desk.http.get(PATH).json() == [made.json()]
    replaced = desk.http.put(where, json={"tag": "spring"}).json()
    assert (replaced["tag"], "destination" in replaced) == ("spring", False)
    assert desk.http.post(PATH, json={"destination": "Gmail.com"}).headers["location"] == "/v1/pauses/gmail.com"
    everything = desk.http.post(PATH, json={"destination": "*"}).headers["location"]
    assert everything == "/v1/pauses/%2A"
    assert desk.http.delete(everything).status_code == 204
    assert [one["name"] for one in desk.http.get(PATH).json()] == ["gmail.com", "spring at x/y"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "destination"),
        ("gmail.com", None),
        (["gmail.com"], "destination"),
        ({"name": "gmail.com"}, "destination"),
        ({"destination": "bob@gmail.com"}, "destination"),
        ({"tag": 7}, "tag"),
        ({"pool": ""}, "pool"),
        ({"tag": "x", "expires": "2h"}, "expires"),
        ({"tag": "x", "for": "2h"}, "for"),
    ],
    ids=["empty", "a text", "a list of texts", "no condition", "an address", "tag", "pool", "expires", "unknown"],
)
def test_what_is_wrong_is_refused_by_field(desk: Desk, body: Any, field: str | None) -> None:
    answer = desk.http.post(PATH, json=body)
    assert (answer.status_code, answer.json().get("field")) == (422 if field else 400, field)
    assert desk.http.get(PATH).json() == []


# --- mailwarren pauses


def test_the_command(database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setenv("DB_URI", database)
    run = Command(capsys)
    assert run("pauses", "list") == (0, "no pauses\n", "")
    assert run("pauses", "add", "gmail.com", "--for", "2h", "--reason", "they defer") == (0, "added pause 'gmail.com'\n", "")
    assert run("pauses", "add", "*.outlook.com", "--tag", "spring")[1] == "added pause '*.outlook.com tag=spring'\n"
    assert run("pauses", "add", "--pool", "bulk", "--name", "mine")[1] == "added pause 'mine'\n"
    heads, outlook, gmail, mine = run("pauses", "list")[1].splitlines()
    assert heads.split() == ["name", "destination", "tag", "pool", "expires", "(UTC)", "reason"]
    assert outlook.split() == ["*.outlook.com", "tag=spring", "*.outlook.com", "spring", "when", "removed"]
    assert mine.split() == ["mine", "bulk", "when", "removed"]
    assert gmail.endswith("they defer")
    raw = tmp_path / "pauses.json"
    raw.write_text(run("pauses", "list", "--raw")[1])
    first, *_ = (one for one in json.loads(raw.read_text()) if one["name"] == "gmail.com")
    left = parse_time(first["expires"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < left <= timedelta(hours=2)
    assert run("pauses", "add", "--file", str(raw))[0] == 0
    for wrong, told in (
        (["add"], "pause: destination: missing: expected at least one of destination, tag and pool"),
        (["add", "x", "--file", str(raw)], "not both"),
        (["add", "x", "--for", "x"], "--for 'x': expected seconds"),
    ):
        code, _, error = run("pauses", *wrong)
        assert (code, told in error) == (2, True), error
    assert run("pauses", "remove", "gmail.com", "mine")[1] == "removed pause 'gmail.com'\nremoved pause 'mine'\n"


# --- the sender


@pytest.mark.parametrize(
    ("by", "pause", "properties"),
    [
        ("domain", {"destination": "x.example"}, {}),
        pytest.param("wildcard", {"destination": "*.example"}, {}, marks=pytest.mark.long),
        pytest.param("everything", {"destination": "*"}, {}, marks=pytest.mark.long),
        pytest.param("tag", {"tag": "spring"}, {"tags": ["vip", "spring"]}, marks=pytest.mark.long),
        pytest.param("pool", {"pool": "bulk"}, {"pool": "bulk"}, marks=pytest.mark.long),
    ],
    ids=["domain", "wildcard", "everything", "tag", "pool"],
)
def test_paused_mail_waits_without_an_attempt(desk: Desk, by: str, pause: dict[str, str], properties: dict[str, Any]) -> None:
    world = desk.world
    recipient = f"ok+by-{by}@x.example"
    said = desk.said()
    before = metric(world.stack, "paused_messages_total")
    where = desk.add(PATH, pause)
    token = world.publish(recipient, **properties)
    # Twice: it looks again within 5 s and is put off again, always as the mail that it was.
    wait_until(lambda: metric(world.stack, "paused_messages_total") >= before + 2, within=AWAY)
    assert desk.said() == said, "something was connected"
    assert [world.find(queue, token) for queue in ("success", "failures", "records", "dead")] == [[], [], [], []]
    desk.remove(where)
    if "pool" in properties:
        # Nobody has defined the pool: that it comes to this shows that it is no longer paused.
        assert world.result("failures", token)["results"][0]["state"] == "process"
        return
    document = world.result("success", token)
    [attempt] = document["results"]
    assert (attempt["attempt"], attempt["code"]) == (1, 250)
    assert "nextattempt" not in document
    assert len(world.delivered(recipient)) == 1


def test_other_mail_goes_on(desk: Desk) -> None:
    desk.add(PATH, [{"tag": "spring"}, {"destination": "y.example"}, {"destination": "*", "expires": "2020-01-01 00:00:00"}])
    desk.world.result("success", desk.world.publish("ok+other@x.example", tags=["vip"]))


def test_a_pause_ends_by_itself(desk: Desk) -> None:
    until = render_time(datetime.now(UTC) + timedelta(seconds=4))
    before = metric(desk.world.stack, "paused_messages_total")
    desk.add(PATH, {"destination": "x.example", "expires": until})
    token = desk.world.publish("ok+expires@x.example")
    document = desk.world.result("success", token)
    assert document["results"][0]["time"] >= until
    assert metric(desk.world.stack, "paused_messages_total") > before


def test_the_deadline_goes_on_counting(desk: Desk) -> None:
    desk.add(PATH, {"destination": "x.example"})
    deadline = render_time(datetime.now(UTC) + timedelta(seconds=3))
    token = desk.world.publish("ok+deadline@x.example", maxdelivertime=deadline)
    document = desk.world.result("failures", token)
    [attempt] = document["results"]
    assert (attempt["state"], attempt["result"], attempt["status"]) == ("process", "timeout", "5.4.7")
    assert attempt["time"] >= deadline


def test_a_suppressed_recipient_is_told_although_paused(desk: Desk) -> None:
    desk.add(PATH, {"destination": "*"})
    desk.add("/v1/suppressions", {"name": "x.example"})
    desk.add("/v1/errors", {"destination": "*", "code": 550})
    assert desk.world.result("failures", desk.world.publish("a@x.example"))["results"][0]["state"] == "suppression"
