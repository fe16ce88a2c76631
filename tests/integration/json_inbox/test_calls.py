"""json-inbox: rules, status, pages, metrics and actions."""

import gzip
import json
import uuid
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from tests.integration.json_inbox_process import JSON, Inbox, message
from tests.support.service import ServiceProcess
from tests.support.waiting import wait_until

RULE = {
    "name": "clinic/1",
    "priority": 5,
    "configuration": {"params": {"recipient_domain": ["*.clinic.example"]}, "outbound": ["seal", "smtp"]},
}


def test_rules_are_kept_listed_replaced_and_removed(inbox: Inbox) -> None:
    made = inbox.http.post("/v1/config", json=RULE)
    assert made.status_code == 201
    where = made.headers["location"]
    assert {name: inbox.http.get(where).json()[name] for name in RULE} == RULE
    assert [rule["name"] for rule in inbox.http.get("/v1/config").json()] == ["clinic/1"]
    with psycopg.connect(inbox.database) as connection:
        assert connection.execute("SELECT name, priority, configuration FROM delivery_configurations").fetchall() == [
            ("clinic/1", 5, RULE["configuration"])
        ]

    assert inbox.http.post("/v1/config", json=RULE | {"priority": 6}).status_code == 200
    put = inbox.http.put(where, json={"priority": 7, "configuration": {"params": {}, "outbound": ["smtp"]}})
    assert (put.status_code, put.json()["priority"]) == (200, 7)
    assert inbox.http.put(where, json=RULE | {"name": "other"}).json()["field"] == "name"

    assert inbox.http.delete(where).status_code == 204
    assert inbox.http.get(where).status_code == 404
    assert inbox.http.delete(where).status_code == 404
    assert inbox.http.get("/v1/config").json() == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"priority": "high"}, "priority"),
        ({"configuration": {"params": {}, "outbound": ["pigeon"]}}, "configuration.outbound"),
        ({"configuration": {"params": {"colour": "red"}, "outbound": ["smtp"]}}, "configuration.params.colour"),
        ({"configuration": {"params": {"sender": "a\x00b"}, "outbound": ["smtp"]}}, "configuration"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_rule_that_is_wrong_is_refused_by_field(inbox: Inbox, change: dict[str, Any], field: str) -> None:
    answer = inbox.http.post("/v1/config", json=RULE | change)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert inbox.http.get("/v1/config").json() == []


def test_which_rule_would_take_a_mail_and_why(inbox: Inbox) -> None:
    where = inbox.http.post("/v1/config", json=RULE).headers["location"]
    taken = inbox.http.post("/v1/config/test", json={"recipient": "a@north.clinic.example"}).json()
    assert taken["outbound"] == ["seal", "smtp"]
    assert taken["rules"] == [{"name": "clinic/1", "outcome": "matches"}]
    passed = inbox.http.post("/v1/config/test", json=message()).json()
    assert passed["outbound"] == ["smtp"]
    assert "example.org does not match" in passed["rules"][0]["outcome"]
    asked = inbox.http.post("/v1/config/test", json=message(strategy="seal")).json()
    assert asked["outbound"] == ["seal"]
    assert inbox.http.post("/v1/config/test", json={"recipient": "x"}).json()["field"] == "recipient"
    assert inbox.queues.take("inbox") == []
    inbox.http.delete(where)


def test_the_status_of_a_mail(inbox: Inbox) -> None:
    assert inbox.http.get(f"/v1/messages/{uuid.uuid4()}").status_code == 404
    name = f"<{uuid.uuid4()}/x@example.org>"
    [accepted] = inbox.http.post("/v1/messages", json=message(**{"message-id": name})).json()["messages"]
    settings = {"RABBITMQ_ADDRESS": inbox.queues.address, "DB_URI": inbox.database, "STORAGE_URL": f"dir://{inbox.store}"}
    with ServiceProcess("result-recorder", settings):
        wait_until(lambda: inbox.http.get(f"/v1/messages/{accepted['id']}").status_code == 200, what="the mail to be recorded")
    for ident in (accepted["id"], quote(name, safe="")):
        found = inbox.http.get(f"/v1/messages/{ident}").json()
        assert found["id"] == accepted["id"]
        assert found["message-id"] == name
        assert found["recipient"] == "to@example.org"
        assert found["status"] == "accepted"
        assert found["attempts"] == []


def test_the_pages_that_tell_what_there_is(inbox: Inbox) -> None:
    paths = inbox.http.get("/openapi.json").json()["paths"]
    assert {"/v1/messages", "/v1/inject", "/v1/config", "/v1/config/test", "/v1/actions"} <= set(paths)
    page = inbox.http.get("/swagger/")
    assert page.headers["content-type"].startswith("text/html")
    assert "://" not in page.text.replace("http://www.w3.org", "")
    assert inbox.http.get("/swagger").headers["location"] == "/swagger/"
    assert inbox.http.get("/liveness").text == "ok\n"
    assert inbox.http.get("/readiness").status_code == 200


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/config", "GET, POST"),
        ("/v1/config/test", "DELETE, GET, POST, PUT"),
        ("/v1/pools/x", "DELETE, GET, PUT"),
        ("/v1/messages", "GET, POST"),
        ("/swagger/", "GET"),
    ],
    ids=["rules", "test", "pool", "messages", "page"],
)
def test_another_method_is_told_which_there_are(inbox: Inbox, path: str, methods: str) -> None:
    answer = inbox.http.request("PATCH", path)
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)
    assert answer.headers["content-type"] == "application/problem+json"
    assert inbox.http.request("PATCH", "/nothing").status_code == 404


def test_a_rule_comes_back_as_it_is_shown(inbox: Inbox) -> None:
    where = inbox.http.post("/v1/config", json=RULE).headers["location"]
    shown = inbox.http.get(where).json()
    assert inbox.http.put(where, json=shown | {"priority": 9}).json()["priority"] == 9
    inbox.http.delete(where)


def test_metrics_have_exactly_these_names(inbox: Inbox) -> None:
    inbox.http.post("/v1/messages", json=message())
    inbox.http.post("/v1/messages", json={})
    for text in (inbox.http.get("/metrics").text, inbox.process.get("/metrics")[1]):
        names = {line.partition("{")[0] for line in text.splitlines() if line.startswith("http_")}
        assert names == {
            "http_requests_total",
            "http_request_duration_seconds_bucket",
            "http_request_duration_seconds_count",
            "http_request_duration_seconds_sum",
        }
        assert 'http_requests_total{code="202",operation="post_messages"}' in text
        assert 'http_requests_total{code="422",operation="post_messages"}' in text


def test_the_action_send_becomes_mail(inbox: Inbox) -> None:
    action = {"action": "send", "recipient": "to@example.org", "subject": "hi", "body_text": "text", "body_html": "<p>html</p>"}
    inbox.queues.publish(action, exchange="actions")
    packed = gzip.compress(json.dumps(action).encode())
    inbox.queues.publish(packed, exchange="actions", encoding="gzip")
    assert inbox.http.post("/v1/actions", json=action).status_code == 202
    wait_until(lambda: inbox.queues.count("inbox") == 3 and inbox.queues.count("records") == 3, what="three mails")
    for got in inbox.queues.take("inbox"):
        mail = got.document
        assert mail["channel"] == "actions"
        assert mail["envelope"] == "actions@example.org"
        assert mail["recipient"] == "to@example.org"
        assert mail["extracted"]["from"] == "actions@example.org"
        assert "multipart/alternative" in mail["mime"]
    assert {got.headers["event"] for got in inbox.queues.take("records")} == {"accepted"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"action": "dance"}', "action: 'dance'; expected one of send, redrive"),
        (b"{}", "action: missing"),
        (b"not JSON", "not JSON"),
        (b'{"action": "send", "recipient": "nobody"}', "recipient: 'nobody'"),
        (b'{"action": "send", "recipient": "a@b.example", "subject": "x\\r\\ny", "body_text": "x"}', "subject"),
        (b'{"action": "redrive", "limit": 0}', "limit"),
    ],
)
def test_an_action_that_cannot_be_done_is_parked_with_the_reason(inbox: Inbox, body: bytes, reason: str) -> None:
    inbox.queues.publish(body, exchange="actions")
    wait_until(lambda: inbox.queues.count("dead") == 1, what="the action to be parked")
    [parked] = inbox.queues.take("dead")
    assert parked.body == body
    assert parked.headers["origin-queue"] == "actions"
    assert reason in parked.headers["reason"]
    assert inbox.http.post("/v1/actions", content=body, headers=JSON).status_code in (400, 422)


def test_the_action_redrive_puts_back_what_is_parked(inbox: Inbox) -> None:
    for number in range(3):
        inbox.queues.publish({"n": number}, key="dead", headers={"origin-queue": "success", "reason": f"reason {number}"})
    assert inbox.http.post("/v1/actions", json={"action": "redrive", "dry-run": True}).json() == {"redriven": 3, "dry-run": True}
    assert inbox.http.post("/v1/actions", json={"action": "redrive", "reason": "reason 1"}).json()["redriven"] == 1
    assert [got.document for got in inbox.queues.take("success")] == [{"n": 1}]
    inbox.queues.publish({"action": "redrive"}, exchange="actions")
    wait_until(lambda: inbox.queues.count("success") == 2, what="the rest to be redriven")
    assert inbox.queues.count("dead") == 0
    inbox.queues.take("success")
