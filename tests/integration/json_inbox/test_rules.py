"""``/v1/config``: rules that rewrite, what is refused, and what ``/v1/config/test`` tells about a mail."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from tests.integration.json_inbox_process import Inbox, message

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "rules.md").read_text()


@pytest.fixture
def inbox(running: Inbox) -> Inbox:
    """The process, with no rules."""
    with psycopg.connect(running.database, autocommit=True) as connection:
        connection.execute("DELETE FROM delivery_configurations")
    return running


def rule(
    name: str = "r", priority: int = 0, outbound: tuple[str, ...] = ("smtp",), rewrite: Any = None, **params: Any
) -> dict[str, Any]:
    configuration: dict[str, Any] = {"params": params, "outbound": list(outbound)}
    if rewrite is not None:
        configuration["rewrite"] = rewrite
    return {"name": name, "priority": priority, "configuration": configuration}


REWRITE: dict[str, Any] = {
    "smarthost": {"hostname": "relay.example", "port": 587, "username": "me", "password": "hunter2"},
    "pool": "bulk",
    "ips": ["192.0.2.1"],
    "tags": ["slow"],
    "security": "required",
    "headers": {"remove": ["X-Internal"], "append": {"X-Rule": "1"}},
    "nextattempt": 600,
}


def test_a_rule_with_everything_comes_back_as_it_was_given(inbox: Inbox) -> None:
    params = {
        "channel": ["smtp", "json"],
        "sender": "*@a.example",
        "sender_domain": "a.example",
        "recipient": "b@*",
        "recipient_domain": ["b.example"],
        "subject": "*x*",
        "header.X-Kind": "bulk",
        "tag": "news*",
        "size_over": 1000,
    }
    given = rule("all", 7, ("seal", "smtp"), REWRITE, **params)
    assert inbox.http.post("/v1/config", json=given).status_code == 201
    assert {name: inbox.http.get("/v1/config/all").json()[name] for name in given} == given
    assert inbox.http.post("/v1/config", json=given).status_code == 200
    assert inbox.http.post("/v1/config", json=inbox.http.get("/v1/config/all").json()).status_code == 200


@pytest.mark.parametrize(
    ("rewrite", "field"),
    [
        ({"colour": "red"}, "configuration.rewrite.colour"),
        ({"security": "tls"}, "configuration.rewrite.security"),
        ({"smarthost": {"port": 25}}, "configuration.rewrite.smarthost"),
        ({"smarthost": {"hostname": "a.example", "port": 0.5}}, "configuration.rewrite.smarthost.port"),
        ({"pool": ["a"]}, "configuration.rewrite.pool"),
        ({"ips": ["localhost"]}, "configuration.rewrite.ips"),
        ({"tags": [1]}, "configuration.rewrite.tags"),
        ({"headers": {"append": {"a b": "c"}}}, "configuration.rewrite.headers.append.a b"),
        ({"nextattempt": {"time": "tomorrow"}}, "configuration.rewrite.nextattempt.time"),
        ({"nextattempt": -1}, "configuration.rewrite.nextattempt"),
        (7, "configuration.rewrite"),
    ],
    ids=str,
)
def test_a_bad_rewrite_is_refused_when_it_is_posted(inbox: Inbox, rewrite: Any, field: str) -> None:
    answer = inbox.http.post("/v1/config", json=rule(rewrite=rewrite))
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert inbox.http.get("/v1/config").json() == []


def test_what_would_be_rewritten_and_why_the_others_do_not_take_it(inbox: Inbox) -> None:
    rules = [
        rule("json only", 1, channel="json"),
        rule("big", 2, size_over=10**6),
        rule("invoices", 3, ("seal", "smtp"), REWRITE, subject="*Rechnung für*", **{"header.x-kind": "bill"}),
        rule("rest", 4),
    ]
    for one in rules:
        assert inbox.http.post("/v1/config", json=one).status_code == 201
    mime = {"from": "a@a.example", "subject": "Ihre RECHNUNG FÜR Mai", "text": "x", "headers": {"X-Kind": "bill"}}
    own: dict[str, Any] = {"tags": ["own"], "security": "verified", "headers": {"append": {"X-Own": "1"}}}
    told = inbox.http.post("/v1/config/test", json=message(channel="smtp", mime=mime, **own)).json()
    assert told["outbound"] == ["seal", "smtp"]
    assert (told["rule"], told["reason"]) == ("invoices", "rule invoices")
    outcomes = {one["name"]: one["outcome"] for one in told["rules"]}
    assert list(outcomes) == [one["name"] for one in rules]
    assert outcomes["json only"] == "channel: smtp does not match json"
    assert outcomes["big"].startswith("size_over: ")
    assert outcomes["big"].endswith(" is not over 1000000")
    assert (outcomes["invoices"], outcomes["rest"]) == ("matches", "matches, but a rule before it has the mail")
    rewritten = told["rewrite"]
    assert rewritten.pop("nextattempt")["time"]
    assert rewritten == {
        "smarthost": REWRITE["smarthost"] | {"password": "***"},
        "pool": "bulk",
        "ips": ["192.0.2.1"],
        "tags": ["own", "slow"],
        "headers": {"remove": ["x-internal"], "append": {"X-Own": "1", "X-Rule": "1"}},
    }
    assert inbox.queues.take("inbox") == []


def test_a_mail_that_no_rule_takes(inbox: Inbox) -> None:
    told = inbox.http.post("/v1/config/test", json=message()).json()
    assert told == {
        "outbound": ["smtp"],
        "reason": "no rule matches: router-default is smtp",
        "rule": None,
        "rewrite": {},
        "rules": [],
    }


def test_an_explicit_strategy_and_the_rule_that_rewrites(inbox: Inbox) -> None:
    inbox.http.post("/v1/config", json=rule("safe", 0, ("seal",), {"security": "required"}))
    told = inbox.http.post("/v1/config/test", json=message(strategy="smtp")).json()
    assert (told["outbound"], told["rewrite"]) == (["smtp"], {"security": "required"})
    assert told["reason"] == "the message asks for smtp; rule safe rewrites it"


def test_a_rule_in_postgres_that_cannot_be_read_is_named(inbox: Inbox) -> None:
    with psycopg.connect(inbox.database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO delivery_configurations (name, priority, configuration, created_at, updated_at)"
            """ VALUES ('odd', 0, '{"outbound": ["pigeon"]}', 0, 0)"""
        )
    answer = inbox.http.post("/v1/config/test", json=message())
    assert answer.status_code == 409
    assert "'odd' in Postgres cannot be read: configuration.outbound: 'pigeon'" in answer.json()["detail"]
    assert inbox.http.delete("/v1/config/odd").status_code == 204


def test_the_commands_of_the_page(inbox: Inbox, tmp_path: Path) -> None:
    """docs/rules.md, as it stands there."""
    (tmp_path / "rules.json").write_text(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    here = str(inbox.http.base_url).rstrip("/")
    commands = re.findall(r"^    ((?:mailwarren|curl) .*)$", PAGE, re.MULTILINE)
    assert len(commands) == 9
    environment = os.environ | {"DB_URI": inbox.database, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shown = []
    for command in commands:
        line = command.replace("http://127.0.0.1:8100", here).replace("curl", "curl --silent --fail-with-body", 1)
        done = subprocess.run(
            ["sh", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        shown.append(done.stdout)
    assert shown[1] == "added rule 'clinic'\nadded rule 'newsletters'\n"
    assert shown[2] == "replaced rule 'clinic'\n"
    assert [line.split()[:3] for line in shown[3].splitlines() if line[0] != " "][1] == ["10", "clinic", "seal"]
    assert orjson.loads(shown[-1])["reason"] == "no rule matches: router-default is smtp"
