"""P3: an S3 in trouble is ours, not the mail's. Clients are told to come again, held mail counts no attempt; only what is gone fails."""

import hashlib
import smtplib
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest

from shared.submission import payload_key
from shared.wire.times import render_time
from tests.integration.s3_proxy import Fault, S3Proxy
from tests.integration.swift import ACCESS_KEY, SECRET_KEY, Swift
from tests.stack import Stack
from tests.support.mx import ScriptedMx
from tests.support.queues import Got, Queues
from tests.support.waiting import wait_until

CONTENT = b"From: a@shop.example\r\nSubject: x\r\nX-Token: x\r\n\r\n" + b"x" * 200_000 + b"\r\n"
BUSY = Fault(status=503)


def s3(proxy: S3Proxy) -> dict[str, Any]:
    return {
        "STORAGE_URL": "s3://payloads",
        "S3_HOSTNAME": proxy.address,
        "S3_ACCESS_KEY": ACCESS_KEY,
        "S3_SECRET_KEY": SECRET_KEY,
        "S3_SECURE": "false",
    }


class Bucket:
    """The bucket, by the good way."""

    def __init__(self, swift: Swift) -> None:
        from minio import Minio

        self._client = Minio(swift.address, ACCESS_KEY, SECRET_KEY, secure=False, region="us-east-1")

    def put(self, key: str, content: bytes) -> None:
        from io import BytesIO

        self._client.put_object("payloads", key, BytesIO(content), len(content))

    def keys(self) -> set[str]:
        return {str(item.object_name) for item in self._client.list_objects("payloads", recursive=True)}

    def delete(self, key: str) -> None:
        self._client.remove_object("payloads", key)


def publish(queues: Queues, bucket: Bucket, recipient: str) -> str:
    """A mail of an inbox, its content in the bucket; the key."""
    ident, now = str(uuid4()), datetime.now(UTC)
    key = payload_key(ident, now)
    bucket.put(key, CONTENT)
    ours = {"id": ident, "transaction": ident, "channel": "smtp", "seen": render_time(now), "key": key}
    mail = {"envelope": "a@shop.example", "recipient": recipient, "sha256": hashlib.sha256(CONTENT).hexdigest()} | ours
    queues.publish(orjson.dumps(mail), key="outbox", app_id="mailwarren")
    return key


def held(stack: Stack) -> float:
    """How many messages a sender has held."""
    text = httpx.get(f"http://{stack.env['METRICS_SMTP_SENDER']}/metrics", timeout=10).text
    return float(next(line.split()[1] for line in text.splitlines() if line.startswith("amqp_held")))


def test_clients_are_told_to_come_again_and_are_taken_when_they_do(pipeline: Stack, swift: Swift, proxy: S3Proxy) -> None:
    pipeline.start("smtp-inbox", **s3(proxy))
    pipeline.start("json-inbox", **s3(proxy))
    queues, bucket = Queues(pipeline.env["RABBITMQ_ADDRESS"]), Bucket(swift)
    before = bucket.keys()
    mail = {"envelope": "a@shop.example", "recipient": "b@good.example", "mime": CONTENT.decode()}

    def send() -> None:
        with smtplib.SMTP(pipeline.env["SMTP_INBOX_ADDRESS"]) as client:
            client.sendmail("a@shop.example", ["b@good.example"], CONTENT)

    with httpx.Client(base_url=pipeline.env["HTTP_ADDRESS"], timeout=30) as http:
        for fault in (BUSY, Fault(flips_request=True), None):
            proxy.suffer(fault)
            with pytest.raises(smtplib.SMTPDataError, match=r"451.*4\.3\.0 Cannot take this mail now, try again later"):
                send()
            answer = http.post("/v1/messages", json=mail)
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            assert "nothing was accepted, send again" in answer.json()["detail"]
            assert int(answer.headers["retry-after"]) > 0
        assert queues.take("inbox") == queues.take("records") == []
        assert bucket.keys() == before
        proxy.heal()
        send()
        assert http.post("/v1/messages", json=mail).status_code == 202
    accepted = [got.document["key"] for got in queues.take("inbox")]
    assert len(accepted) == 2
    assert bucket.keys() - before == set(accepted)


def test_what_is_gone_or_another_one_fails_and_says_so(pipeline: Stack, sink: ScriptedMx, swift: Swift, proxy: S3Proxy) -> None:
    queues, bucket = Queues(pipeline.env["RABBITMQ_ADDRESS"]), Bucket(swift)
    bucket.delete(publish(queues, bucket, "gone@good.example"))
    bucket.put(publish(queues, bucket, "other@good.example"), CONTENT[::-1])
    publish(queues, bucket, "fine@good.example")
    pipeline.start("smtp-sender", SMTP_SINK_ADDRESS=sink.address, DSN_NOTIFY="NEVER", **s3(proxy))
    failures = {got.document["recipient"]: got.document["results"] for got in _take(queues, "failures", 2)}
    told = {recipient: [(one["state"], one["result"], one["code"]) for one in found] for recipient, found in failures.items()}
    assert told == {"gone@good.example": [("storage", "error", 554)], "other@good.example": [("storage", "invalid", 554)]}
    assert [got.document["recipient"] for got in _take(queues, "success", 1)] == ["fine@good.example"]
    assert [mail.content for mail in sink.ledger.mails()] == [CONTENT]


@pytest.mark.long
@pytest.mark.parametrize("fault", [BUSY, None, Fault(rate=1000), Fault(stalls=True)], ids=["503", "down", "1 KB/s", "silent"])
def test_mail_is_held_uncounted_and_delivered_when_the_store_is_back(
    pipeline: Stack, sink: ScriptedMx, swift: Swift, proxy: S3Proxy, fault: Fault | None
) -> None:
    """Twenty mails. The sender is stopped in the middle: that takes no longer than ever."""
    queues, bucket = Queues(pipeline.env["RABBITMQ_ADDRESS"]), Bucket(swift)
    for number in range(20):
        publish(queues, bucket, f"ok+{number}@good.example")
    proxy.suffer(fault)
    settings: dict[str, Any] = {"SMTP_SINK_ADDRESS": sink.address, "HOLD_TIME": "0.2", "DRAIN_TIMEOUT": "2", **s3(proxy)}
    pipeline.start("smtp-sender", **settings)
    is_slow = fault is not None and not fault.status
    # A sender opens few sessions to one host at once, and each is kept while the content is fetched.
    wait_until(lambda: proxy.stalled >= 4 if is_slow else held(pipeline) >= 20, within=60)
    began = time.monotonic()
    pipeline.stop("smtp-sender")
    assert time.monotonic() - began < 20
    proxy.heal()
    pipeline.start("smtp-sender", **settings)
    results = _take(queues, "success", 20)
    assert {len(got.document["results"]) for got in results} == {1}
    assert queues.take("failures") == []
    assert sorted(mail.recipient for mail in sink.ledger.mails()) == sorted(f"ok+{number}@good.example" for number in range(20))
    assert {mail.content for mail in sink.ledger.mails()} == {CONTENT}
    assert sink.ledger.duplicates() == {}


def _take(queues: Queues, queue: str, count: int) -> list[Got]:
    taken: list[Got] = []

    def is_there() -> bool:
        taken.extend(queues.take(queue))
        return len(taken) >= count

    wait_until(is_there, within=90, every=0.25)
    return taken
