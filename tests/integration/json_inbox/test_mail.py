"""json-inbox: mail in over HTTP."""

import gzip
import hashlib
import json
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.json_inbox_process import JSON, LINES, MIME, Inbox, message


def test_a_mail_is_published_with_its_record_before_the_202(inbox: Inbox) -> None:
    answer = inbox.http.post("/v1/messages", json=message(unknown={"kept": [1, 2]}, **{"message-id": "mine"}))
    assert answer.status_code == 202
    [accepted] = answer.json()["messages"]
    assert accepted["recipient"] == "to@example.org"
    assert accepted["message-id"] == "mine"

    [mail] = inbox.queues.take("inbox")
    [record] = inbox.queues.take("records")
    assert mail.app_id == record.app_id == "mailwarren"
    assert record.headers["event"] == "accepted"
    document = mail.document
    assert document["id"] == accepted["id"]
    assert document["envelope"] == "from@example.org"
    assert document["channel"] == "json"
    assert document["unknown"] == {"kept": [1, 2]}
    assert document["http"] == {"token": None, "remote-ip": "127.0.0.1"}
    assert document["extracted"]["subject"] == "hello"
    content = document["mime"]
    assert content.endswith(MIME)
    assert content.startswith("Received: from ")
    assert " with HTTP id " in content
    assert document["sha256"] == hashlib.sha256(content.encode()).hexdigest()
    assert "mime" not in record.document
    assert record.document["id"] == accepted["id"]


def test_inject_is_the_same_call(inbox: Inbox) -> None:
    assert inbox.http.post("/v1/inject", json=message()).status_code == 202
    assert len(inbox.queues.take("inbox")) == 1


def test_recipients_make_one_message_each(inbox: Inbox) -> None:
    body = {"recipients": ["one@example.org", "two@example.org"], "mime": MIME}
    answer = inbox.http.post("/v1/messages", json=body).json()["messages"]
    assert [one["recipient"] for one in answer] == ["one@example.org", "two@example.org"]
    mails = [got.document for got in inbox.queues.take("inbox")]
    assert {mail["recipient"] for mail in mails} == {"one@example.org", "two@example.org"}
    assert len({mail["transaction"] for mail in mails}) == 1
    assert {mail["recipients-total"] for mail in mails} == {2}
    assert len({mail["id"] for mail in mails}) == 2


def test_a_batch_of_1000_is_answered_after_one_round_of_confirms(inbox: Inbox) -> None:
    began = time.monotonic()
    answer = inbox.http.post("/v1/messages", json=[message(f"to-{number}@example.org") for number in range(1000)])
    took = time.monotonic() - began
    assert answer.status_code == 202
    assert [one["recipient"] for one in answer.json()["messages"]] == [f"to-{number}@example.org" for number in range(1000)]
    # A round for each message would be 2,000 times 1 ms and more; the bound leaves room for a busy machine.
    assert took < 10
    ids = {one["id"] for one in answer.json()["messages"]}
    assert {got.document["id"] for got in inbox.queues.take("inbox")} == ids
    assert {got.document["id"] for got in inbox.queues.take("records")} == ids


def test_a_list_is_all_or_nothing(inbox: Inbox) -> None:
    answer = inbox.http.post("/v1/messages", json=[message(), message("nobody"), message(mime=5)])
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    errors = answer.json()["errors"]
    assert [(error["index"], error["field"]) for error in errors] == [(1, "recipient"), (2, "mime")]
    assert all(error["reason"] for error in errors)
    assert inbox.queues.take("inbox") == []


def test_partial_accepts_what_is_right(inbox: Inbox) -> None:
    answer = inbox.http.post(
        "/v1/messages?partial=true", json=[message("a@example.org"), message("nobody"), message("b@example.org")]
    )
    assert answer.status_code == 202
    assert [one["recipient"] for one in answer.json()["messages"]] == ["a@example.org", "b@example.org"]
    assert [error["index"] for error in answer.json()["errors"]] == [1]
    assert len(inbox.queues.take("inbox")) == 2
    assert inbox.http.post("/v1/messages?partial=true", json=[message("nobody")]).status_code == 422
    assert inbox.http.post("/v1/messages?partial=perhaps", json=[message()]).json()["field"] == "partial"


def test_lines_gzipped_or_not(inbox: Inbox) -> None:
    body = b"\n".join(json.dumps(message(f"{number}@example.org")).encode() for number in range(3)) + b"\n\n"
    assert len(inbox.http.post("/v1/messages", content=body, headers=LINES).json()["messages"]) == 3
    packed = {**LINES, "Content-Encoding": "gzip"}
    assert len(inbox.http.post("/v1/messages", content=gzip.compress(body), headers=packed).json()["messages"]) == 3
    bad = inbox.http.post("/v1/messages", content=body + b"{nothing\n", headers=LINES)
    assert (bad.status_code, bad.json()["errors"][0]["index"]) == (422, 3)
    assert len(inbox.queues.take("inbox")) == 6


def test_bytes_that_are_no_text_arrive_unchanged(inbox: Inbox) -> None:
    body = {"recipient": "to@example.org", "mime64": "U3ViamVjdDogeAoK/w=="}
    assert inbox.http.post("/v1/messages", json=body).status_code == 202
    [mail] = inbox.queues.take("inbox")
    assert "mime" not in mail.document
    assert mail.document["mime64"]


def test_structured_mail_becomes_mime_at_the_door(inbox: Inbox) -> None:
    mail = {"from": "a@example.org", "to": "to@example.org", "subject": "Grüße", "content": "<p>Hallo</p>"}
    assert inbox.http.post("/v1/messages", json=message(mime=mail)).status_code == 202
    [got] = inbox.queues.take("inbox")
    assert "multipart/alternative" in got.document["mime"]
    assert got.document["extracted"]["subject"] == "Grüße"


def test_large_content_goes_to_the_store(inbox: Inbox) -> None:
    content = MIME + "x" * 76 + "\r\n" * 100_000
    assert inbox.http.post("/v1/messages", json=message(mime=content)).status_code == 202
    [mail] = inbox.queues.take("inbox")
    assert "mime" not in mail.document
    [stored] = [path for path in inbox.store.rglob("*") if path.is_file() and mail.document["key"].endswith(path.name)]
    assert stored.read_bytes().endswith(content.encode())
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == mail.document["sha256"]
    [record] = inbox.queues.take("records")
    assert record.document["key"] == mail.document["key"]


@pytest.mark.parametrize(
    ("headers", "body", "status", "field"),
    [
        (JSON, b"{", 400, None),
        (JSON, b"", 400, None),
        (JSON, b'{"recipient": "a@b.example", "recipient": "c@d.example", "mime": "x"}', 400, None),
        (JSON, b'{"recipient": "a@b.example", "mime": "x", "n": 123456789012345678901}', 400, None),
        (JSON, b"[" * 5000 + b"]" * 5000, 400, None),
        (JSON, b"[]", 422, None),
        (JSON, b"5", 422, None),
        (JSON, b'{"mime": "x"}', 422, "recipient"),
        (JSON, b'{"recipient": "a@b.example"}', 422, "mime"),
        (JSON, b'{"recipient": "a@b.example", "key": "v1/other"}', 422, "key"),
        (JSON, b'{"recipient": "a@b.example", "mime": "x", "dkim": {"key": "x"}}', 422, "dkim.domain"),
        (JSON, b'{"recipient": "a@b.example", "mime": {"from": "a@b.example", "content": {"blocks": []}}}', 422, "mime.content"),
        ({"Content-Type": "text/plain"}, b"{}", 415, "Content-Type"),
        ({**JSON, "Content-Encoding": "br"}, b"{}", 415, "Content-Encoding"),
        ({**JSON, "Content-Encoding": "gzip"}, b"{}", 400, None),
        ({**JSON, "Content-Encoding": "gzip"}, gzip.compress(b" " * 60_000_000), 413, None),
        ({**JSON, "Idempotency-Key": ""}, b"{}", 400, "Idempotency-Key"),
        ({**JSON, "Idempotency-Key": "x" * 256}, b"{}", 400, "Idempotency-Key"),
        ({**JSON, "Idempotency-Key": "a\tb"}, b"{}", 400, "Idempotency-Key"),
        ({**JSON, "Origin": "https://evil.example"}, b"{}", 403, "Origin"),
        ({**JSON, "Host": "evil.example"}, b"{}", 421, "Host"),
        (JSON, b'{"mime": "' + b"x" * 30_000_000 + b'"}', 413, None),
        (JSON, json.dumps([{"recipient": "a@b.example", "mime": "x"}] * 1001).encode(), 422, None),
        (JSON, json.dumps({"recipients": ["a@b.example"] * 1001, "mime": "x"}).encode(), 422, None),
    ],
)
def test_bad_input_is_a_problem_document(
    inbox: Inbox, headers: dict[str, str], body: bytes, status: int, field: str | None
) -> None:
    answer = inbox.http.post("/v1/messages", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem.get("field") == field
    assert problem["detail"]
    assert "Traceback" not in answer.text
    assert inbox.queues.take("inbox") == []


def test_a_body_of_unknown_length_is_bounded_too(inbox: Inbox) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(500):
            yield b" " * 100_000

    try:
        answer = inbox.http.post("/v1/messages", content=endless(), headers=JSON)
    except httpx.TransportError:
        # The server may close while the client still writes.
        answer = None
    assert answer is None or answer.status_code == 413
    assert inbox.http.get("/liveness").status_code == 200


def test_calls_that_do_not_exist(inbox: Inbox) -> None:
    assert inbox.http.get("/v2/messages").status_code == 404
    assert inbox.http.delete("/v1/messages").status_code == 405
    assert inbox.http.get("/v2/messages").headers["content-type"] == "application/problem+json"
