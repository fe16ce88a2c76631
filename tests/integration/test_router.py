"""The process router on a real RabbitMQ and Postgres: rules as they are in the table, and what holds while Postgres is away."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from tests.stack import Stack
from tests.support.queues import Got, Queues
from tests.support.waiting import wait_until

OURS: dict[str, Any] = {
    "channel": "json",
    "seen": "2026-03-01 12:00:00",
    "recipient": "a@b.example",
    "envelope": "r@a.example",
    "mime": "x",
}


class Desk:
    """Publishes to ``inbox`` and sees where mail goes; writes rules."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.queues = Queues(stack.env["RABBITMQ_ADDRESS"])

    def route(self, queue: str, **properties: Any) -> Got:
        """Publish a mail of our inbox and wait for it in ``queue``."""
        ident = str(uuid.uuid4())
        self.queues.publish(OURS | {"id": ident, "transaction": ident} | properties, key="inbox", app_id="mailwarren")
        found = wait_until(lambda: [got for got in self.queues.take(queue) if got.document.get("id") == ident], within=20)
        return found[0]

    def put_rule(self, name: str, outbound: list[str], priority: int = 0, **params: Any) -> None:
        """Insert a rule as json-inbox does."""
        configuration = orjson.dumps({"params": params, "outbound": outbound}).decode()
        with psycopg.connect(self.stack.env["DB_URI"], autocommit=True) as connection:
            columns = "name, priority, configuration, created_at, updated_at"
            connection.execute(
                f"INSERT INTO delivery_configurations ({columns}) VALUES (%s, %s, %s, 0, 0)",  # noqa: S608 - constant
                (name, priority, configuration),
            )


@pytest.fixture
def desk(pipeline: Stack) -> Desk:
    """The process with an empty table of rules."""
    pipeline.start("router")
    return Desk(pipeline)


def test_by_rules_and_their_changes(desk: Desk) -> None:
    assert desk.route("outbox").document["recipient"] == "a@b.example"
    desk.put_rule("secret", ["seal", "smtp"], tag="secret")
    wait_until(lambda: "in force" in desk.stack.log("router").read_text(), within=20)
    sealed = wait_until(lambda: _try_seal(desk), within=20, every=0.5)
    assert sealed is not None
    assert (sealed.document["outbound"], sealed.app_id) == (["smtp"], "mailwarren")
    assert desk.route("outbox").document.get("outbound") in (None, [])
    assert desk.route("seal", strategy="seal").document["strategy"] == "seal"


def _try_seal(desk: Desk) -> Got | None:
    """One mail with the tag; None while the rule is not in force yet (the mail then goes to the outbox)."""
    ident = str(uuid.uuid4())
    desk.queues.publish(OURS | {"id": ident, "transaction": ident, "tags": ["secret"]}, key="inbox", app_id="mailwarren")
    wait_until(lambda: desk.queues.count("seal") + desk.queues.count("outbox"), within=20)
    taken = desk.queues.take("seal")
    desk.queues.take("outbox")
    return taken[0] if taken else None


def test_a_bad_message_is_parked_and_an_impossible_one_answered(desk: Desk) -> None:
    desk.queues.publish(b"hello", key="inbox")
    [parked] = wait_until(lambda: desk.queues.take("dead"), within=20)
    assert (parked.headers["origin-queue"], parked.body) == ("inbox", b"hello")
    failure = desk.route("failures", strategy="pigeon").document
    assert (failure["results"][0]["state"], failure["results"][0]["result"]) == ("process", "invalid")
    [record] = wait_until(lambda: desk.queues.take("records"), within=20)
    assert record.headers["event"] == "failure"


def test_without_postgres_it_goes_on_with_the_last_rules(pipeline: Stack, tmp_path: Path) -> None:
    snapshot = str(tmp_path / "rules.json")
    desk = Desk(pipeline)
    desk.put_rule("all", ["seal"])
    pipeline.start("router", ROUTER_SNAPSHOT=snapshot)
    assert desk.route("seal")
    pipeline.stop("router")
    pipeline.start("router", ROUTER_SNAPSHOT=snapshot, DB_URI="postgresql://nobody@127.0.0.1:1/nothing")
    assert desk.route("seal")


def test_rules_that_were_never_seen_hold_the_mail(pipeline: Stack, tmp_path: Path) -> None:
    desk = Desk(pipeline)
    settings: dict[str, Any] = {"ROUTER_SNAPSHOT": str(tmp_path / "missing.json"), "HOLD_TIME": "0.1"}
    pipeline.start("router", DB_URI="postgresql://nobody@127.0.0.1:1/nothing", **settings)
    desk.queues.publish(OURS | {"id": "held", "transaction": "held"}, key="inbox", app_id="mailwarren")
    wait_until(lambda: desk.queues.count("wait.30s") == 1, within=20)
    assert [desk.queues.count(queue) for queue in ("outbox", "seal", "dead", "failures")] == [0, 0, 0, 0]
    [held] = desk.queues.take("wait.30s")
    assert (held.key, held.app_id, held.document["id"]) == ("inbox", "mailwarren", "held")
