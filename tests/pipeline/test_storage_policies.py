"""Where content lies while a mail waits, for each ``storage-policy``; and that nothing of it is left when the mail is final."""

import smtplib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import orjson
import pika
import psycopg
import pytest

from shared.wire.times import render_time
from tests.stack import Stack
from tests.support.mx import ScriptedMx
from tests.support.queues import Queues
from tests.support.waiting import wait_until

BODY = "é" + "x" * 3000
WAYS = ("smtp", "smtp-too", "amqp", "later", "kept")
BY_SMTP, BY_SMTP_TOO, BY_AMQP, LATER, KEPT = ALL = [f"grey+{way}@good.example" for way in WAYS]


def content(subject: str) -> str:
    return f"From: a@shop.example\r\nSubject: {subject}\r\nX-Token: {subject}\r\n\r\n{BODY}\r\n"


def send_by_smtp(stack: Stack) -> None:
    with smtplib.SMTP(stack.env["SMTP_INBOX_ADDRESS"]) as client:
        client.sendmail("a@shop.example", [BY_SMTP, BY_SMTP_TOO], content("smtp").encode())


def publish(stack: Stack, *mails: Mapping[str, object]) -> None:
    with pika.BlockingConnection(pika.URLParameters(stack.env["RABBITMQ_ADDRESS"])) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for mail in mails:
            channel.basic_publish("outbox", "", orjson.dumps(mail), pika.BasicProperties(delivery_mode=2), mandatory=True)


def rows(stack: Stack, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(stack.env["DB_URI"]) as connection:
        return connection.execute(query.encode()).fetchall()


def payloads(stack: Stack) -> list[Path]:
    root = Path(stack.env["STORAGE_URL"].removeprefix("dir://"))
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.fixture
def start(pipeline: Stack, sink: ScriptedMx) -> Callable[..., Stack]:
    """Five processes with a policy; small content is large already."""

    def start(policy: str) -> Stack:
        common: dict[str, Any] = {"STORAGE_POLICY": policy, "STORAGE_THRESHOLD": "1000"}
        pipeline.start("smtp-inbox", INBOUND_SMTP_RELAY="127.0.0.1", **common)
        pipeline.start("router")
        pipeline.start("result-recorder", **common)
        pipeline.start("smtp-sender", SMTP_SINK_ADDRESS=sink.address, RETRY_INTERVAL="20", SMTP_HOSTNAME="me.example", **common)
        return pipeline

    return start


@pytest.mark.long
@pytest.mark.parametrize(("policy", "stored"), [("all", 4), ("out", 4), ("in", 1), ("none", 0)])
def test_content_waits_where_the_policy_says_and_nothing_is_left(
    start: Callable[..., Stack], sink: ScriptedMx, policy: str, stored: int
) -> None:
    """A mail by SMTP to two, on ``outbox`` a mail, one of which the time has not come, and one with ``keepmime``: each is refused once,
    then taken."""
    stack = start(policy)
    send_by_smtp(stack)
    mail = {"envelope": "a@shop.example", "recipient": BY_AMQP, "mime": content("amqp")}
    due = {"nextattempt": {"time": render_time(datetime.now(UTC) + timedelta(seconds=4))}}
    later = mail | {"recipient": LATER, "mime": content("later")} | due
    publish(stack, mail, later, mail | {"recipient": KEPT, "mime": content("kept"), "keepmime": True})
    wait_until(lambda: len(rows(stack, "SELECT FROM delivery_attempts WHERE code = 451")) == len(ALL), within=60)
    assert len(payloads(stack)) == stored
    keys = {row[0] for row in rows(stack, "SELECT datafile FROM messages WHERE datafile IS NOT NULL")}
    assert len(keys) == stored
    wait_until(lambda: len(rows(stack, "SELECT FROM message_status WHERE status = 'delivered'")) == len(ALL), within=60)
    [result] = [got.document for got in Queues(stack.env["RABBITMQ_ADDRESS"]).take("success") if KEPT in got.body.decode()]
    if "key" in result:
        assert rows(stack, "SELECT datafile FROM kept_payloads") == [(result["key"],)]
        assert (result["sha256"], result["size"]) == (sha256(content("kept").encode()).hexdigest(), len(content("kept").encode()))
    else:
        assert result["mime"] == content("kept")
    assert ("key" in result) == (policy in ("all", "out"))
    wait_until(lambda: rows(stack, "SELECT FROM messages") == [], within=10)
    wait_until(lambda: len(payloads(stack)) == int("key" in result), within=10)
    found = {one.recipient: one.content for one in sink.ledger.mails()}
    assert found[BY_AMQP] == content("amqp").encode()
    assert found[LATER] == content("later").encode()
    for recipient in (BY_SMTP, BY_SMTP_TOO):
        # After the one header that its inbox prepended.
        assert found[recipient].endswith(content("smtp").encode())
        assert found[recipient].startswith(b"Received: from ")
    assert sink.ledger.duplicates() == {}


def test_what_must_ride_in_a_message_and_is_too_large_for_it_is_refused(pipeline: Stack) -> None:
    """The policy ``none``: told on the channel that it came by, and nothing of it is kept."""
    common: dict[str, Any] = {"STORAGE_POLICY": "none", "STORAGE_MAX_MESSAGE": "65536"}
    pipeline.start("smtp-inbox", **common)
    pipeline.start("json-inbox", **common)
    large = content("large") + "y" * 70_000
    with smtplib.SMTP(pipeline.env["SMTP_INBOX_ADDRESS"]) as client:
        with pytest.raises(smtplib.SMTPDataError, match=r"552.*5\.3\.4 Larger than can be taken here"):
            client.sendmail("a@shop.example", [BY_SMTP], large.encode())
        client.sendmail("a@shop.example", [BY_SMTP], content("small").encode())
    mail = {"envelope": "a@shop.example", "recipient": BY_AMQP, "mime": large}
    with httpx.Client(base_url=pipeline.env["HTTP_ADDRESS"], timeout=30) as http:
        answer = http.post("/v1/messages", json=mail)
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
        assert answer.json()["field"] == "mime"
        assert "expected at most 65536" in answer.json()["detail"]
        # Its content fits, its other properties do not.
        answer = http.post("/v1/messages", json=mail | {"mime": "From: a@b.example\r\n\r\nx\r\n", "x-mine": "z" * 70_000})
        assert answer.status_code == 413
        assert "nothing was accepted" in answer.json()["detail"]
        answer = http.post("/v1/messages", params={"partial": "true"}, json=[mail, mail | {"mime": content("small")}])
        assert answer.status_code == 202
        assert [error["status"] for error in answer.json()["errors"]] == [413]
        assert len(answer.json()["messages"]) == 1
    assert payloads(pipeline) == []
