"""The router's rules on a real RabbitMQ and Postgres: how soon a change is in force, what a rewrite publishes, what shows."""

from __future__ import annotations

import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from tests.stack import Stack
from tests.support.queues import Got, Queues
from tests.support.waiting import wait_until

OURS: dict[str, Any] = {
    "channel": "smtp",
    "seen": "2026-03-01 12:00:00",
    "recipient": "a@b.example",
    "envelope": "r@a.example",
    "mime": "x",
}
NEVER = "86400"


class Rules:
    """Writes rules as json-inbox does, and sees where mail goes."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.queues = Queues(stack.env["RABBITMQ_ADDRESS"])

    def execute(self, statement: str, *values: Any) -> None:
        """On a connection of its own."""
        with psycopg.connect(self.stack.env["DB_URI"], autocommit=True) as connection:
            connection.execute(statement.encode(), values)

    def put(self, name: str, *outbound: str, params: Mapping[str, Any] | None = None, **rewrite: Any) -> None:
        """Add or replace a rule."""
        configuration = {"params": dict(params or {}), "outbound": list(outbound)} | ({"rewrite": rewrite} if rewrite else {})
        self.execute(
            "INSERT INTO delivery_configurations (name, priority, configuration, created_at, updated_at) VALUES (%s, 0, %s, 0, 0)"
            " ON CONFLICT (name) DO UPDATE SET configuration = excluded.configuration",
            name,
            orjson.dumps(configuration).decode(),
        )

    def route(self, queue: str, **properties: Any) -> Got:
        """Publish a mail of an inbox and wait for it in ``queue``."""
        ident = str(uuid.uuid4())
        self.queues.publish(OURS | {"id": ident, "transaction": ident} | properties, key="inbox", app_id="mailwarren")
        found = wait_until(lambda: [got for got in self.queues.take(queue) if got.document.get("id") == ident], within=20)
        return found[0]

    def metric(self, name: str) -> float | None:
        """A figure of the router; None when it does not show it."""
        with urllib.request.urlopen(f"http://{self.stack.env['METRICS_ROUTER']}/metrics", timeout=5) as answer:
            for line in answer.read().decode().splitlines():
                shown, _, value = line.rpartition(" ")
                if shown == name:
                    return float(value)
        return None

    def wait_metric(self, name: str, value: float, within: float = 20) -> float:
        """Until the figure is that; how many seconds it took."""
        began = time.monotonic()
        wait_until(lambda: self.metric(name) == value, within=within, every=0.02, what=f"{name} {value}")
        return time.monotonic() - began


@pytest.fixture
def rules(pipeline: Stack) -> Rules:
    """The process with an empty table of rules, which it would not read again by itself."""
    pipeline.start("router", ROUTER_REFRESH=NEVER)
    return Rules(pipeline)


@pytest.fixture
def own_servers() -> Iterator[Stack]:
    """Servers of its own, which the test may stop."""
    with Stack(services=()) as stack:
        yield stack


def test_a_change_is_in_force_at_once(rules: Rules) -> None:
    rules.wait_metric("router_rules", 0)
    rules.put("a", "seal")
    assert rules.wait_metric("router_rules", 1) < 2
    assert rules.route("seal")
    rules.put("a", "smtp")
    rules.put("b", "seal", params={"tag": "x"})
    assert rules.wait_metric("router_rules", 2) < 2
    assert rules.route("outbox")
    rules.execute("DELETE FROM delivery_configurations")
    assert rules.wait_metric("router_rules", 0) < 2


def test_a_change_without_a_notice_is_found(pipeline: Stack) -> None:
    rules = Rules(pipeline)
    rules.execute("DROP TRIGGER delivery_configurations_notify ON delivery_configurations")
    pipeline.start("router", ROUTER_REFRESH="0.5")
    rules.put("a", "seal")
    rules.wait_metric("router_rules", 1)
    assert rules.route("seal")


def test_a_rewritten_mail_says_what_the_rule_says_and_nothing_else_new(rules: Rules) -> None:
    rewrite: dict[str, Any] = {
        "smarthost": {"hostname": "relay.example", "port": 587, "username": "me", "password": "hunter2"},
        "pool": "bulk",
        "tags": ["slow"],
        "security": "required",
        "headers": {"append": {"X-Rule": "1"}},
        "nextattempt": 600,
    }
    rules.put("w", "smtp", params={"tag": "news"}, **rewrite)
    rules.wait_metric("router_rules", 1)
    own = {"tags": ["news"], "ips": ["192.0.2.1"], "unknown": {"n": 18446744073709551615, "a": [None, 1.5, "é"]}}
    got = rules.route("outbox", **own)
    expected = OURS | own | rewrite
    del expected["ips"]
    expected |= {"tags": ["news", "slow"], "nextattempt": {"time": "2026-03-01 12:10:00"}}
    assert {name: value for name, value in got.document.items() if name not in ("id", "transaction")} == expected
    assert (rules.metric('router_rule_matches_total{rule="w"}'), rules.metric("router_rewritten_total")) == (1, 1)
    wait_until(lambda: '"event":"routed"' in rules.stack.log("router").read_text(), within=20)
    log = rules.stack.log("router").read_text()
    assert '"reason":"rule w"' in log
    assert '"rewritten":["headers","ips","nextattempt","pool","security","smarthost","tags"]' in log
    assert "hunter2" not in log


def test_a_mail_that_no_rule_changes_keeps_its_bytes(rules: Rules) -> None:
    rules.put("w", "smtp", params={"tag": "news"}, tags=["slow"])
    rules.wait_metric("router_rules", 1)
    ident = str(uuid.uuid4())
    body = b' {"recipient" : "a@b.example",  "id":"%s", "seen":"2026-03-01 12:00:00","n":1.50} ' % ident.encode()
    rules.queues.publish(body, key="inbox", app_id="mailwarren")
    [got] = wait_until(lambda: rules.queues.take("outbox"), within=20)
    assert got.body == body


def test_a_report_from_elsewhere_goes_the_way_of_other_mail(rules: Rules) -> None:
    """It may be for somebody behind us. Only what we write ourselves passes no rules."""
    rules.put("sealed", "seal", params={"sender": "", "header.auto-submitted": "auto-*"})
    rules.wait_metric("router_rules", 1)
    extracted = {"from": "", "to": [], "subject": "", "headers": {"auto-submitted": "auto-replied"}}
    assert rules.route("seal", envelope="", extracted=extracted)
    assert rules.route("outbox", envelope="a@b.example", extracted=extracted)


def test_an_applications_mail_is_looked_into_where_the_rules_apply_to_it(rules: Rules) -> None:
    """Bound so by an operator: exchange outbox → queue inbox. Such mail has no ``extracted``."""
    rules.put("secret", "seal", params={"subject": "*geheim*", "channel": "amqp", "size_over": 20})
    rules.wait_metric("router_rules", 1)
    for mime in ("Subject: =?utf-8?q?Streng_GEHEIM?=\r\n\r\nx\r\n", {"subject": "geheim", "text": "x", "from": "a@b.example"}):
        rules.queues.publish({"recipient": "a@b.example", "envelope": "", "mime": mime}, key="inbox")
        [sealed] = wait_until(lambda: rules.queues.take("seal"), within=20)
        assert sealed.document["mime"] == mime
    assert rules.queues.count("outbox") == 0


@pytest.mark.long
def test_postgres_away_at_the_start_and_later(own_servers: Stack, tmp_path: Path) -> None:
    stack = own_servers
    rules = Rules(stack)
    stack.stop("postgres")
    snapshot = tmp_path / "rules.json"
    stack.start("router", ROUTER_SNAPSHOT=str(snapshot), HOLD_TIME="0.1")
    assert rules.metric("router_rules_seen") == 0
    rules.queues.publish(OURS | {"id": "held"}, key="inbox", app_id="mailwarren")
    wait_until(lambda: rules.queues.count("wait.30s") == 1, within=20)

    stack.start("postgres")
    rules.wait_metric("router_rules_seen", 1)
    assert rules.metric("router_rules_fresh") == 1
    assert rules.route("outbox")
    rules.put("a", "seal")
    rules.wait_metric("router_rules", 1)
    assert [rule["name"] for rule in orjson.loads(snapshot.read_bytes())] == ["a"]

    stack.stop("postgres")
    rules.wait_metric("router_rules_fresh", 0)
    assert rules.route("seal")
    stack.kill("router")
    stack.wait_ready("router")
    assert (rules.metric("router_rules_seen"), rules.metric("router_rules")) == (1, 1)
    assert rules.route("seal")

    stack.start("postgres")
    rules.wait_metric("router_rules_fresh", 1)
    rules.put("b", "smtp", params={"tag": "x"})
    rules.wait_metric("router_rules", 2)
