"""The process smtp-sender on a real RabbitMQ: what an application publishes, and what it can read afterwards."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from tests.integration.world import MIME, World, at_work
from tests.stack import Stack
from tests.support.waiting import wait_until

CONTENT = MIME.encode()


@pytest.fixture(scope="module")
def world(servers: Stack, database_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The process, with retries after a second."""
    settings = {"RETRY_INTERVAL": "1", "HOST_REST": "0"}
    with at_work(servers, database_template, tmp_path_factory.mktemp("sender"), "smtp-sender", settings) as one:
        pids = one.stack.pids("smtp-sender")
        yield one
        assert one.stack.pids("smtp-sender") == pids, "some message ended the process"


def test_accepted(world: World) -> None:
    unknown: dict[str, Any] = {"x-deep": {"n": 18446744073709551615, "list": [None, 1.5, "é"]}}
    token = world.publish("ok+first@x.example", tags=["vip"], **unknown)
    [result], [record] = world.wait_for("success", token), world.wait_for("records", token)
    assert result.body == record.body
    assert (result.app_id, record.headers["event"]) == ("mailwarren", "success")
    document = result.document
    assert (document["x-deep"], document["tags"], document["channel"]) == (unknown["x-deep"], ["vip"], "amqp")
    assert not {"mime", "mime64", "key"} & set(document)
    [attempt] = document["results"]
    assert (attempt["state"], attempt["result"], attempt["code"], attempt["attempt"]) == ("message", "accepted", 250, 1)
    assert (attempt["mta"], attempt["to"], attempt["strategy"]) == ("mx.example", "127.0.0.1", "smtp")
    assert document["extracted"]["subject"] == "Größe"
    assert document["extracted"]["recipient"] == {"local": "ok+first", "domain": "x.example"}
    [mail] = world.delivered("ok+first@x.example")
    assert (mail.content, mail.reverse_path) == (CONTENT, "r@a.example")


def test_refused_for_good(world: World) -> None:
    token = world.publish("reject-550@x.example")
    [attempt] = world.result("failures", token)["results"]
    assert (attempt["state"], attempt["result"], attempt["code"], attempt["status"]) == ("rcptto", "error", 550, "5.1.1")
    [record] = world.wait_for("records", token)
    assert record.headers["event"] == "failure"


def test_greylisted_then_accepted(world: World) -> None:
    token = world.publish("grey-2+again@x.example")
    document = world.result("success", token)
    assert [(one["attempt"], one["code"]) for one in document["results"]] == [(1, 451), (2, 451), (3, 250)]
    events = [got.headers["event"] for got in world.wait_for("records", token, 3)]
    assert events == ["retry", "retry", "success"]
    assert all("mime" not in got.document for got in world.find("records", token))
    assert len(world.delivered("grey-2+again@x.example")) == 1


def test_given_up(world: World) -> None:
    token = world.publish("tempfail@x.example", maxattempts=2)
    document = world.result("failures", token)
    assert [(one["attempt"], one["code"]) for one in document["results"]] == [(1, 451), (2, 451)]


def test_no_such_domain(world: World) -> None:
    for domain, status in (("gone.example", "5.1.2"), ("null.example", "5.1.10")):
        [attempt] = world.result("failures", world.publish(f"ok@{domain}"))["results"]
        assert (attempt["state"], attempt["result"], attempt["status"]) == ("dns", "error", status)
        assert not {"to", "mta"} & set(attempt)


def test_gzip_is_read(world: World) -> None:
    body = gzip.compress(orjson.dumps({"recipient": "ok+gzip@x.example", "mime": MIME}))
    world.queues.publish(body, exchange="outbox", encoding="gzip")
    wait_until(lambda: world.delivered("ok+gzip@x.example"), within=20)


def test_structured_mail(world: World) -> None:
    mail = {"from": "r@a.example", "to": "ok@x.example", "subject": "x", "text": "hello"}
    world.result("success", world.publish("ok+structured@x.example", mime=mail))
    [stored] = world.delivered("ok+structured@x.example")
    assert b"\r\n\r\nhello" in stored.content


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"hello", "body is not JSON"),
        (b"[1]", "body is a JSON array, expected an object"),
        (b'{"recipient": "ok@x.example", "n": 123456789012345678901}', "does not fit into 64 bits"),
        (b'{"recipient": "ok@x.example", "recipient": "b@x.example"}', "stands twice"),
        (b'{"recipient": "ok@x.example", "x": ' + b"[" * 200 + b"]" * 200 + b"}", "nested deeper than 100"),
    ],
)
def test_what_is_no_message_is_parked(world: World, body: bytes, reason: str) -> None:
    world.queues.publish(body, exchange="outbox")
    [parked] = wait_until(lambda: world.queues.take("dead"), within=20)
    assert (parked.body, parked.headers["origin-queue"]) == (body, "outbox")
    assert reason in parked.headers["reason"]


@pytest.mark.parametrize(
    "property_of_ours", [{"extracted": []}, {"results": [1]}, {"seen": "now"}, {"outbound": "seal"}, {"size": "x"}, {"id": 7}]
)
def test_a_claimed_app_id_does_not_end_the_process(world: World, property_of_ours: dict[str, Any]) -> None:
    ours = {"id": "1", "seen": "2026-03-01 12:00:00"} | property_of_ours
    world.publish("ok@x.example", app_id="mailwarren", **ours)
    [parked] = wait_until(lambda: world.queues.take("dead"), within=20)
    assert next(iter(property_of_ours)) in parked.headers["reason"]


@pytest.mark.parametrize(
    ("recipient", "properties", "reason"),
    [
        (..., {}, "recipient"),
        (7, {}, "recipient"),
        ("nobody", {}, "there is no @"),
        ("ok@x.example", {"dkim": {"domain": "x"}}, "dkim.selector: missing: expected"),
        (
            "ok@x.example",
            {"queues": {"success": "outbox"}},
            "queues.success: 'outbox': this key leads into a queue of the pipeline",
        ),
        ("ok@x.example", {"queues": {"failure": "actions"}}, "queues.failure: 'actions'"),
        ("ok@x.example", {"strategy": "pigeon"}, "strategy"),
        ("ok@x.example", {"mime": 7}, "mime"),
        ("ok@x.example", {"mime": None, "key": "v1/2026/01/01/x"}, "key"),
        (
            "ok@x.example",
            {"dkim": {"domain": "x.example", "selector": "s", "key": "-----BEGIN PRIVATE KEY-----\nno\n"}},
            "dkim.key",
        ),
        ("ok@x.example", {"security": "please"}, "security: 'please': expected one of optional"),
        ("ok@x.example", {"ips": ["somewhere"]}, "ips"),
        ("ok@x.example", {"dsn": {"notify": "NEVER,FAILURE"}}, "dsn.notify"),
        ("ok@x.example", {"mime": None}, "mime: missing"),
    ],
)
def test_an_impossible_message_is_answered(world: World, recipient: Any, properties: dict[str, Any], reason: str) -> None:
    token = world.publish(recipient, **properties)
    [attempt] = world.result("failures", token)["results"]
    assert (attempt["state"], attempt["result"], attempt["code"]) == ("process", "invalid", 554)
    assert reason in attempt["description"]


@pytest.mark.parametrize(
    ("properties", "state", "result", "reason"),
    [
        ({"ips": []}, "process", "error", "an empty list"),
        ({"ips": ["192.0.2.1"]}, "process", "error", "none of them is an address of this host"),
        ({"pool": "nobody's"}, "process", "error", "is not known here"),
        ({"mime": {"subject": "no author"}}, "responsive", "error", "mime.from"),
        ({"mime": {"from": "a@b.example", "attachments": [{"data": "!"}]}}, "responsive", "error", "attachments[0].data"),
    ],
)
def test_what_cannot_be_sent_is_answered(world: World, properties: dict[str, Any], state: str, result: str, reason: str) -> None:
    token = world.publish("ok@x.example", **properties)
    told = world.result("failures", token)
    [attempt] = told["results"]
    assert (attempt["state"], attempt["result"], attempt["code"]) == (state, result, 554)
    assert attempt["status"].startswith("5.")
    assert reason in attempt["description"]
    assert attempt["class"]


def test_too_late(world: World) -> None:
    token = world.publish("ok+late@x.example", maxdelivertime="2020-01-01 00:00:00")
    [attempt] = world.result("failures", token)["results"]
    assert (attempt["state"], attempt["result"]) == ("process", "timeout")
    assert not world.delivered("ok+late@x.example")


@pytest.mark.parametrize(("time", "queue"), [("9999-12-31 23:59:59", "wait.2h"), ("2126-01-01 00:00:00", "wait.2h")])
def test_not_due_is_parked(world: World, time: str, queue: str) -> None:
    token = world.publish("ok+later@x.example", nextattempt={"time": time})
    [waiting] = world.wait_for(queue, token)
    assert (waiting.key, waiting.app_id) == ("outbox", "mailwarren")
    assert waiting.document["nextattempt"] == {"time": time}
    assert "results" not in waiting.document
    assert not world.find("records", token)


def test_forged_headers_do_not_reach_a_wait_queue(world: World) -> None:
    """On 3.10 one forged x-death in a wait queue stops the dead lettering of the whole broker."""
    forged = {"x-death": "forged", "x-first-death-queue": "x", "CC": ["records"], "BCC": ["dead"], "x-delivery-count": 99}
    token = world.publish("grey+forged@x.example", headers=forged)
    assert len(world.result("success", token)["results"]) == 2
    assert [got.headers["event"] for got in world.find("records", token)] == ["retry", "success"]


def test_mail_that_asks_to_be_sealed_is_handed_over_unattempted(world: World) -> None:
    token = world.publish("ok+sealed@x.example", strategy="seal")
    [mail] = world.wait_for("seal", token)
    assert (mail.document["mime"], mail.app_id, "results" in mail.document) == (MIME, "mailwarren", False)
    assert not world.delivered("ok+sealed@x.example")


def test_keys_of_its_own(world: World) -> None:
    token = world.publish("ok@x.example", queues={"success": "refused", "results": "local"})
    assert world.result("refused", token)["results"]
    assert world.result("local", token)["results"]
    assert world.wait_for("records", token)
    assert not world.find("success", token)


def test_keys_that_lead_nowhere(world: World) -> None:
    token = world.publish("grey+nowhere@x.example", queues={"success": "nowhere", "results": "nowhere", "retry": "nowhere"})
    assert len(world.result("success", token)["results"]) == 2
    assert len(world.wait_for("records", token, 2)) == 2


def test_published_nowhere_is_recorded(world: World) -> None:
    token = world.publish("reject@x.example", queues={"failure": None})
    [record] = world.wait_for("records", token)
    assert record.headers["event"] == "failure"
    assert not world.find("failures", token)


def test_a_result_published_back_starts_a_new_life(world: World) -> None:
    old = world.result("failures", world.publish("reject-550-1+back@x.example"))
    again = {name.replace("-", "_"): value for name, value in old.items() if name not in ("recipient", "x-token")}
    token = world.publish("ok+back@x.example", **again)
    new = world.result("success", token)
    assert [one["attempt"] for one in new["results"]] == [1]
    assert new["id"] != old["id"]


@pytest.mark.long
def test_stop_in_the_middle_of_a_delivery(
    servers: Stack, database_template: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SIGTERM: the mail in hand is delivered and its result published, once; what is not begun waits for the next start."""
    with at_work(
        servers, database_template, tmp_path_factory.mktemp("stopped"), "smtp-sender", {"SMTP_CONNECTIONS": "5"}
    ) as world:
        tokens = [world.publish(f"slow-1.5+{number}@x.example") for number in range(5)]
        wait_until(lambda: world.mx.state.commands["DATA"] == 5, within=20)
        world.stack.stop("smtp-sender")
        assert all(len(world.find("success", token)) == 1 for token in tokens)
        assert len(list(world.mx.ledger.mails())) == 5
        assert world.queues.count("outbox") == 0
        late = world.publish("ok+late@x.example")
        world.stack.start("smtp-sender")
        assert world.result("success", late)
        assert len(list(world.mx.ledger.mails())) == 6
