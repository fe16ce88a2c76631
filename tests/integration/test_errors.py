"""Forced errors: over HTTP and the command into Postgres, from there to the sender, which tells them instead of an attempt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.stopping import Command, Desk, metric
from tests.support.waiting import wait_until

PATH = "/v1/errors"
ERROR = {"name": "called back", "tag": "spring", "code": 550, "status": "5.7.1", "description": "Called back"}


# --- /v1/errors


def test_they_are_kept_listed_replaced_and_removed(desk: Desk) -> None:
    made = desk.http.post(PATH, json=ERROR)
    where = made.headers["location"]
    assert (made.status_code, where) == (201, "/v1/errors/called%20back")
    assert {name: made.json()[name] for name in ERROR} == ERROR
    assert desk.http.get(PATH).json() == [made.json()]
    assert desk.http.put(where, json={"tag": "spring", "code": 421}).json()["code"] == 421
    assert desk.http.post(PATH, json={"pool": "bulk", "code": 550}).headers["location"] == "/v1/errors/pool%3Dbulk"
    assert desk.http.delete(where).status_code == 204
    assert desk.http.get(where).json()["detail"] == "no forced error has the name 'called back'"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"code": None}, "code"),
        ({"code": 250}, "code"),
        ({"code": "550"}, "code"),
        ({"status": "4.7.1"}, "status"),
        ({"description": "a\nb"}, "description"),
        ({"tag": None}, "destination"),
        ({"reason": "x"}, "reason"),
    ],
)
def test_what_is_wrong_is_refused_by_field(desk: Desk, change: dict[str, Any], field: str) -> None:
    answer = desk.http.post(PATH, json=ERROR | change)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert desk.http.get(PATH).json() == []


# --- mailwarren errors


def test_the_command(database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setenv("DB_URI", database)
    run = Command(capsys)
    assert run("errors", "list") == (0, "no forced errors\n", "")
    added = run("errors", "add", "--tag", "spring", "--code", "550", "--description", "Called back")
    assert added == (0, "added forced error 'tag=spring'\n", "")
    assert run("errors", "add", "yahoo.example", "--code", "421", "--status", "4.3.2", "--for", "2h")[0] == 0
    _, spring, yahoo = run("errors", "list")[1].splitlines()
    assert spring.split() == ["tag=spring", "spring", "when", "removed", "550", "5.7.1", "Called", "back"]
    assert yahoo.endswith("421 4.3.2 Stopped by a forced error")
    raw = tmp_path / "errors.json"
    raw.write_text(run("errors", "list", "--raw")[1])
    assert {"name": "tag=spring", "tag": "spring", "code": 550, "description": "Called back"} in json.loads(raw.read_text())
    assert run("errors", "add", "--file", str(raw))[0] == 0
    for wrong, told in (
        (["add", "x.example"], "--code is missing"),
        (["add", "--code", "550"], "forced error: destination: missing"),
        (["add", "x.example", "--code", "200"], "forced error: code: 200: expected a number from 400"),
        (["add", "x.example", "--file", str(raw)], "not both"),
    ):
        code, _, error = run("errors", *wrong)
        assert (code, told in error) == (2, True), error
    assert run("errors", "remove", "tag=spring") == (0, "removed forced error 'tag=spring'\n", "")


# --- the sender


def test_a_5xx_fails_the_mail_without_an_attempt(desk: Desk) -> None:
    world = desk.world
    said = desk.said()
    before = metric(world.stack, "forced_errors_total")
    where = desk.add(PATH, ERROR)
    # The next strategy of its chain does not get it either.
    token = world.publish("ok+forced@x.example", tags=["spring"], outbound=["seal"])
    [attempt] = world.result("failures", token)["results"]
    told = {name: attempt[name] for name in ("state", "result", "code", "status", "description", "attempt")}
    assert told == {
        "state": "process", "result": "error", "code": 550, "status": "5.7.1", "description": "Called back", "attempt": 1,
    }  # fmt: skip
    assert not {"to", "from", "mta"} & set(attempt)
    assert desk.said() == said, "something was connected"
    assert world.queues.count("seal") == 0
    assert metric(world.stack, "forced_errors_total") == before + 1
    world.result("success", world.publish("ok+unforced@x.example", tags=["summer"]))
    desk.remove(where)
    world.result("success", world.publish("ok+forced@x.example", tags=["spring"]))


def test_a_4xx_is_tried_again_by_the_usual_schedule_and_counts(desk: Desk) -> None:
    world = desk.world
    where = desk.add(PATH, {"destination": "*.example", "code": 451, "status": "4.3.2"})
    token = world.publish("ok+later@x.example")
    wait_until(lambda: len(world.find("records", token)) >= 2, within=30)
    desk.remove(where)
    document = world.result("success", token)
    *forced, sent = document["results"]
    assert {(one["state"], one["result"], one["code"], one["status"]) for one in forced} == {("process", "error", 451, "4.3.2")}
    assert [one["attempt"] for one in document["results"]] == list(range(1, len(forced) + 2))
    assert sent["code"] == 250
    assert len(world.delivered("ok+later@x.example")) == 1


def test_its_attempts_run_out(desk: Desk) -> None:
    desk.add(PATH, {"destination": "x.example", "code": 421})
    document = desk.world.result("failures", desk.world.publish("ok+capped@x.example", maxattempts=2))
    assert [(one["attempt"], one["code"]) for one in document["results"]] == [(1, 421), (2, 421)]


def test_the_most_specific_one_counts(desk: Desk) -> None:
    codes = {"*": 500, "*.example": 501, "x.example": 502}
    desk.add(PATH, [{"destination": destination, "code": code} for destination, code in codes.items()])
    assert desk.world.result("failures", desk.world.publish("a@x.example"))["results"][0]["code"] == 502
