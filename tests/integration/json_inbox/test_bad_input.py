"""json-inbox: what is wrong, hostile or half is a problem document that names the field, and nothing of it goes on."""

import gzip
import json
from email import message_from_bytes
from email.policy import SMTP
from typing import Any

import pytest

from tests.integration.json_inbox_process import JSON, LINES, Inbox, message


def body(**properties: Any) -> bytes:
    return json.dumps(message(**properties)).encode()


def mail(**parts: Any) -> bytes:
    return body(mime={"from": "a@example.org", "text": "hi", **parts})


EVIL = "x\r\nBcc: evil@example.org"
GZIP = {**JSON, "Content-Encoding": "gzip"}
CASES: dict[str, tuple[dict[str, str], bytes, int, str | None]] = {
    "deep": (JSON, body()[:-1] + b', "x": ' + b"[" * 101 + b"]" * 101 + b"}", 400, None),
    "very deep": (JSON, body()[:-1] + b', "x": ' + b'{"a":' * 100_000, 400, None),
    "a key twice": (JSON, body()[:-1] + b', "recipient": "other@example.org"}', 400, None),
    "a key twice, deep": (JSON, body()[:-1] + b', "x": [{"y": {"a": 1, "a": 2}}]}', 400, None),
    "a key twice, escaped": (JSON, body()[:-1] + b', "recip\\u0069ent": "other@example.org"}', 400, None),
    "65 bits": (JSON, body()[:-1] + b', "x": 18446744073709551616}', 400, None),
    "a number of 1 MB": (JSON, body()[:-1] + b', "x": ' + b"9" * 1_000_000 + b"}", 400, None),
    "no number": (JSON, body()[:-1] + b', "x": NaN}', 400, None),
    "infinity": (JSON, body()[:-1] + b', "x": Infinity}', 400, None),
    "half a surrogate": (JSON, body()[:-1] + b', "x": "\\ud800"}', 400, None),
    "no UTF-8": (JSON, body()[:-1] + b', "x": "\xff"}', 400, None),
    "UTF-16": (JSON, body().decode().encode("utf-16"), 400, None),
    "two documents": (JSON, body() + body(), 400, None),
    "half a document": (JSON, body()[:-20], 400, None),
    "a text": (JSON, b'"send it"', 422, None),
    "null": (JSON, b"null", 422, None),
    "half gzip": (GZIP, gzip.compress(body())[:-9], 400, None),
    "gzip and more": (GZIP, gzip.compress(body()) + b"x", 400, None),
    "no gzip": (GZIP, body(), 400, None),
    "two encodings": ({**JSON, "Content-Encoding": "gzip, gzip"}, body(), 415, "Content-Encoding"),
    "a form": ({"Content-Type": "application/x-www-form-urlencoded"}, b"recipient=a", 415, "Content-Type"),
    "plain text": ({"Content-Type": "text/plain"}, body(), 415, "Content-Type"),
    "half a line": (LINES, body() + b"\n" + body()[:-20], 422, None),
    "NUL in the recipient": (JSON, body(recipient="a\0@example.org"), 422, "recipient"),
    "CR LF in the recipient": (JSON, body(recipient="a@example.org\r\nRCPT TO:<b@example.org>"), 422, "recipient"),
    "LF in the reverse-path": (JSON, body(envelope="a@example.org\nDATA"), 422, "envelope"),
    "CR LF in the message-id": (JSON, body(**{"message-id": EVIL}), 422, "message-id"),
    "CR LF in the subject": (JSON, mail(subject=EVIL), 422, "mime.subject"),
    "CR in the subject": (JSON, mail(subject="x\rBcc: evil@example.org"), 422, "mime.subject"),
    "CR LF in a name": (JSON, mail(to={"name": EVIL, "address": "b@example.org"}), 422, "mime.to.name"),
    "CR LF in an address": (JSON, mail(cc=f"b@example.org{EVIL}"), 422, "mime.cc"),
    "CR LF in reply-to": (JSON, mail(replyTo=[{"name": EVIL, "address": "b@example.org"}]), 422, "mime.replyTo[0].name"),
    "CR LF in a header": (JSON, mail(headers={"X-A": EVIL}), 422, "mime.headers.X-A"),
    "CR LF in a header's name": (JSON, mail(headers={"X-A: 1\r\nBcc": "1"}), 422, "mime.headers"),
    "CR LF in a file's name": (
        JSON,
        mail(attachments=[{"data": "YQ==", "name": EVIL}]),
        422,
        "mime.attachments[0].name",
    ),
    "CR LF in a file's type": (
        JSON,
        mail(attachments=[{"data": "YQ==", "type": f"text/plain{EVIL}"}]),
        422,
        "mime.attachments[0].type",
    ),
    "CR LF in a content-id": (
        JSON,
        mail(content="<p>", attachments=[{"data": "YQ==", "content-id": EVIL}]),
        422,
        "mime.attachments[0].content-id",
    ),
    "CR LF in an edit": (JSON, body(headers={"append": {"X-A": EVIL}}), 422, "headers.append.X-A"),
    "CR LF in the envid": (JSON, body(dsn={"envid": EVIL}), 422, "dsn.envid"),
    "NUL in the text": (JSON, mail(text="a\0b"), 422, "mime.text"),
    "a property of structured mail that is none": (JSON, mail(bbc="a@example.org"), 422, "mime.bbc"),
    "a priority of 2^40": (JSON, body(priority=2**40), 422, "priority"),
    "a float for a whole number": (JSON, body(maxattempts=1.5), 422, "maxattempts"),
    "a key of the store": (JSON, b'{"recipient": "a@example.org", "key": "v1/2026/01/01/x"}', 422, "key"),
    "a key of the store that climbs": (JSON, b'{"recipient": "a@example.org", "key": "../../etc/passwd"}', 422, "key"),
    "one of our own queues": (JSON, body(queues={"success": "outbox"}), 422, "queues.success"),
    "a query that says neither": (JSON, body(), 400, "partial"),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_of_it_goes_on(inbox: Inbox, name: str) -> None:
    headers, content, status, field = CASES[name]
    path = "/v1/messages?partial=perhaps" if field == "partial" else "/v1/messages"
    answer = inbox.http.post(path, content=content, headers=headers)
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem.get("field")) == (status, status, field), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "detail"} <= set(problem)
    assert "Traceback" not in answer.text
    assert len(answer.text) < 2000
    assert inbox.queues.count("inbox") == inbox.queues.count("records") == 0


def test_what_looks_like_a_header_stays_text(inbox: Inbox) -> None:
    """Where a text may have lines, they are text; bcc is never in the mail; encoded words are not read as names."""
    parts = {
        "from": {"name": 'Evil" <evil@example.org>, "', "address": "a@example.org"},
        "to": {"name": "=?utf-8?q?evil=40example.org=2C?=", "address": "b@example.org"},
        "bcc": ["secret@example.org"],
        "subject": "Grüße: \u2028 Bcc: evil@example.org",
        "text": "Bcc: evil@example.org\r\n\r\n.\r\nMAIL FROM:<>\n",
    }
    assert inbox.http.post("/v1/messages", content=mail(**parts), headers=JSON).status_code == 202
    [got] = inbox.queues.take("inbox")
    parsed = message_from_bytes(got.document["mime"].encode(), policy=SMTP)
    assert [address.addr_spec for address in parsed["From"].addresses] == ["a@example.org"]
    assert [address.addr_spec for address in parsed["To"].addresses] == ["b@example.org"]
    assert parsed["Bcc"] is None
    assert "secret@example.org" not in got.document["mime"]
    assert got.document["extracted"]["to"] == ["b@example.org"]


def test_every_call_says_what_it_needs_and_every_example_works(inbox: Inbox) -> None:
    paths = inbox.http.get("/openapi.json").json()["paths"]
    open_ = {f"{method} {path}" for path, calls in paths.items() for method, call in calls.items() if "security" not in call}
    assert open_ == {"get /liveness", "get /readiness"}
    for path, calls in paths.items():
        for method, call in calls.items():
            if "security" in call:
                assert "Scope of a token: `" in call["description"]
                assert {"401", "403", "429"} <= set(call["responses"]), f"{method} {path}"
    for path in ("/v1/messages", "/v1/inject", "/v1/actions"):
        for kind, media in paths[path]["post"]["requestBody"]["content"].items():
            for title, example in media["examples"].items():
                value = example["value"]
                content = value if isinstance(value, str) else json.dumps(value)
                answer = inbox.http.post(path, content=content, headers={"Content-Type": kind})
                assert answer.status_code in (200, 202), f"{path} {title}: {answer.text}"
