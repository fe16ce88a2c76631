"""JSON and structured mail: what is too deep, too large, doubled, or a header in disguise.

More: tests/integration/json_inbox/test_bad_input.py.
"""

import gzip
import json
import time
from contextlib import ExitStack
from email import message_from_bytes
from email.policy import SMTP
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.integration.attacks.targets import ClientFrom
from tests.integration.json_inbox_process import JSON, LINES, Inbox, message

GZIP = {**JSON, "Content-Encoding": "gzip"}
LINE_ENDS = ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\0", "\x1b", "\x7f", "\x9b"]
"""What one reader or another takes for the end of a line, and what a terminal obeys."""


def put(parts: dict[str, Any], path: str, value: str) -> dict[str, Any]:
    """A structured mail with the value at a place such as ``attachments.0.name``."""
    mail: Any = json.loads(json.dumps(parts))
    *way, last = path.split(".")
    for step in way:
        mail = mail[int(step)] if step.isdigit() else mail[step]
    mail[last] = value
    return {"recipient": "b@example.org", "mime": mail}


PARTS: dict[str, Any] = {
    "from": {"name": "A", "address": "a@example.org"},
    "to": [{"name": "B", "address": "b@example.org"}],
    "replyTo": [{"name": "C", "address": "c@example.org"}],
    "subject": "hello",
    "text": "hi",
    "content": "<p>hi</p>",
    "headers": {"X-A": "b"},
    "attachments": [{"data": "YQ==", "name": "a.txt", "type": "text/plain", "content-id": "c"}],
}
PLACES = [
    "from.name", "from.address", "to.0.name", "to.0.address", "replyTo.0.name", "subject", "headers.X-A",
    "attachments.0.name", "attachments.0.type", "attachments.0.content-id",
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_no_header_comes_in_through_structured_mail(web: Inbox, place: str) -> None:
    """Refused with the field's name, or text of the one header that it was for."""
    expected = {"from", "to", "reply-to", "subject", "x-a", "date", "message-id", "mime-version", "content-type", "received"}
    for end in LINE_ENDS:
        for evil in (f"x{end}Bcc: evil@example.org", f"x{end}{end}evil", f'x"{end};y="z'):
            answer = web.http.post("/v1/messages", json=put(PARTS, place, evil))
            if answer.status_code == 422:
                assert answer.json()["field"].startswith("mime."), (end, answer.text)
                assert web.queues.count("inbox") == 0
                continue
            assert answer.status_code == 202, (end, answer.text)
            [got] = web.queues.take("inbox")
            assert not [octet for octet in got.document["mime"] if octet < " " and octet not in "\t\r\n"], repr(end)
            content = got.document["mime"].encode()
            assert content.count(b"\r\n") == content.count(b"\n") == content.count(b"\r")
            parsed = message_from_bytes(content, policy=SMTP)
            assert {name.lower() for name in parsed} <= expected, repr(end)
            assert [address.addr_spec for address in parsed["to"].addresses] == ["b@example.org"]
            assert not parsed.defects


@pytest.mark.parametrize("end", LINE_ENDS, ids=ascii)
def test_names_and_values_that_become_no_header(web: Inbox, end: str) -> None:
    """Tags and properties of the application's own are data in the message: they stay what they are and go into no header."""
    evil = f"x{end}Bcc: evil@example.org"
    body = message(tags=[evil], application={evil: evil})
    assert web.http.post("/v1/messages", json=body).status_code == 202
    [got] = web.queues.take("inbox")
    assert (got.document["tags"], got.document["application"]) == ([evil], {evil: evil})
    assert got.document["mime"].endswith(body["mime"])
    assert "evil" not in got.document["mime"]
    for field in ("recipient", "envelope", "message-id", "strategy", "security", "maxdelivertime"):
        properties: dict[str, Any] = {field: f"a{end}@example.org"}
        answer = web.http.post("/v1/messages", json=message(**properties))
        assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text


BOMBS = {
    "spaces": (b"", b" ", 300_000_000),
    "brackets": (b"", b"[", 200_000_000),
    "a text": (b'{"recipient": "a@example.org", "mime": "', b"x", 200_000_000),
    "lines": (b"", b"{}\n", 50_000_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_of_gzip(web: Inbox, name: str) -> None:
    head, piece, times = BOMBS[name]
    bomb = gzip.compress(head + piece * times, 1)
    before = peak(web)
    began = time.monotonic()
    answer = web.http.post("/v1/messages", content=bomb, headers=GZIP)
    assert (answer.status_code, answer.json()["status"]) == (413, 413)
    assert time.monotonic() - began < 5
    assert peak(web) - before < 100_000
    assert web.http.get("/liveness").status_code == 200


def peak(web: Inbox) -> int:
    """Kilobytes of resident memory at most, so far."""
    with open(f"/proc/{web.process.pid}/status") as status:
        return int(next(line.split()[1] for line in status if line.startswith("VmHWM")))


def test_a_bomb_in_a_bomb_is_a_body_like_any_other(web: Inbox) -> None:
    content = gzip.compress(gzip.compress(b" " * 100_000_000))
    answer = web.http.post("/v1/messages", content=content, headers=GZIP)
    assert (answer.status_code, answer.json()["detail"][:16]) == (400, "body is not JSON")


EDGES: dict[str, tuple[bytes, int]] = {
    "99 levels": (b"[" * 98 + b"]" * 98, 202),
    "101 levels": (b"[" * 101 + b"]" * 101, 400),
    "a million open brackets": (b"[" * 1_000_000, 400),
    "a million open objects": (b'{"a":' * 1_000_000, 400),
    "a key twice at the deepest level": (b"[" * 90 + b'{"a":1,"a":1}' + b"]" * 90, 400),
    "a key twice, once escaped": (b'{"a":1,"\\u0061":2}', 400),
    "100,000 keys": (b"{" + b",".join(b'"k%d":0' % number for number in range(100_000)) + b"}", 202),
    "64 bits": (b"18446744073709551615", 202),
    "65 bits": (b"18446744073709551616", 400),
    "65 bits below zero": (b"-9223372036854775809", 400),
    "a number of 100,000 digits": (b"9" * 100_000, 400),
    "an exponent that is too large": (b"1e400", 400),
    "an exponent of many digits": (b"1e" + b"9" * 100_000, 400),
    "a fraction of 100,000 digits": (b"0." + b"1" * 100_000, 202),
    "a number in hexadecimal": (b"0x10", 400),
    "a number with a zero in front": (b"010", 400),
    "a comment": (b"1 /* one */", 400),
    "half a surrogate pair": (b'"\\udc00"', 400),
    "UTF-8 of a surrogate": (b'"\xed\xa0\x80"', 400),
    "UTF-8 longer than it must be": (b'"\xc0\x80"', 400),
    "a control character": (b'"a\nb"', 400),
}


@pytest.mark.parametrize("name", EDGES)
def test_the_edges_of_json(web: Inbox, name: str) -> None:
    value, status = EDGES[name]
    body = json.dumps(message()).encode()[:-1] + b', "application": ' + value + b"}"
    for headers, content in ((JSON, body), (LINES, body + b"\n"), (GZIP, gzip.compress(body, 1))):
        began = time.monotonic()
        answer = web.http.post("/v1/messages", content=content, headers=headers)
        # Of lines, each stands for itself: its mistake is one of an item.
        assert answer.status_code == (422 if headers is LINES and status == 400 else status), answer.text[:300]
        assert len(answer.content) < 2000
        assert time.monotonic() - began < 5
    assert len(web.queues.take("inbox")) == (3 if status == 202 else 0)


def test_5000_recipients(web: Inbox) -> None:
    recipients = [f"b{number}@example.org" for number in range(5000)]
    for body in ({"recipients": recipients, "mime": "x"}, [message(recipient) for recipient in recipients]):
        answer = web.http.post("/v1/messages", json=body)
        assert answer.status_code == 422
        assert "http-max-messages, 1000" in answer.json()["detail"]
    assert web.queues.take("inbox") == []


def test_1000_multiparts_in_each_other(web: Inbox) -> None:
    began = time.monotonic()
    mime = "".join(f'Content-Type: multipart/mixed; boundary="b{level}"\r\n\r\n--b{level}\r\n' for level in range(1000))
    assert web.http.post("/v1/messages", json=message(mime=mime)).status_code == 202
    deep: Any = {"text": "hi"}
    for _ in range(40):
        deep = {"attachments": [deep]}
    answer = web.http.post("/v1/messages", json=message(mime={"from": "a@example.org", **deep}))
    assert (answer.status_code, answer.json()["field"]) == (422, "mime.attachments[0].attachments")
    assert time.monotonic() - began < 5


def test_300_slow_clients_keep_nobody_from_being_served(web: Inbox) -> None:
    """Half a head, half a body, nothing at all; how each of them ends: the unit tests of services.json_inbox.connections."""
    port = urlsplit(str(web.http.base_url)).port
    assert port is not None
    heads = [b"", b"POST /v1/mess", b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"]
    with ExitStack() as stack:
        for number in range(300):
            stack.enter_context(ClientFrom(port, f"127.0.0.{2 + number % 9}")).send(heads[number % 3])
        began = time.monotonic()
        for _ in range(5):
            assert web.http.post("/v1/messages", json=message()).status_code == 202
        assert time.monotonic() - began < 5
    assert len(web.queues.take("inbox")) == 5
