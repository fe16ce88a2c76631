"""What is told of refused mail, and how."""

import base64
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from services.smtp_inbox.refused import Refused, RefusedMail, cut_content, find_path, is_told, render_refused

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SOURCE = {"connection": {"remote-ip": "192.0.2.1", "user": None}}
CONTENT = b"Received: us\r\nX-MQ-Smarthost-Password: secret\r\nSubject: hello\r\n\r\ntext\r\n"


def render(limit: int = 1000, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "reply": "550 5.7.1 No relay for you",
        "state": "rcptto",
        "reverse_path": "a@example.com",
        "recipients": ["b@example.org"],
    }
    document: dict[str, Any] = orjson.loads(
        render_refused(Refused(**given | changes), SOURCE, "mx.example", limit=limit, now=NOW)
    )
    return document


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ("550 5.7.1 No relay for you", True),
        ("550 5.5.2 The content has a NUL", True),
        ("552 5.3.4 Larger than 1000 octets", True),
        ("554 5.4.6 Too many hops", True),
        ("550 Refused", True),
        ("500 5.5.1 No such command", False),
        ("501 5.5.4 Syntax", False),
        ("503 5.5.1 MAIL comes first", False),
        ("530 5.7.0 Authentication required", False),
        ("553 5.1.7 Reverse-path: it is empty", False),
        ("553 5.1.3 Recipient: it is empty", False),
        ("553 5.6.7 A non-ASCII address needs SMTPUTF8", False),
        ("554 5.5.1 No valid recipients", False),
        ("555 5.5.4 Parameter not offered", False),
        ("451 4.3.0 Cannot take mail now, try again later", False),
        ("452 4.5.3 Too many recipients", False),
        ("250 2.0.0 Ok", False),
        ("", False),
    ],
)
def test_refusals_of_mail_are_told_and_no_others(reply: str, told: bool) -> None:
    published: list[tuple[str, bytes]] = []
    desk = RefusedMail(lambda key, body: published.append((key, body)), "refused", 10)
    desk.tell(Refused(reply, "rcptto", "a@example.com", ["b@example.org"]), SOURCE, "mx.example")
    assert is_told(reply) is told
    assert [key for key, _ in published] == ["refused"] * told


def test_nobody_wants_to_know() -> None:
    def fail(key: str, body: bytes) -> None:
        raise AssertionError(key)

    RefusedMail(fail, "", 10).tell(Refused("550 5.7.1 No", "rcptto", "", ["b@example.org"]), SOURCE, "mx.example")


def test_a_refused_recipient() -> None:
    document = render()
    assert len(document.pop("id")) == 36
    assert len(document.pop("message-id")) == 36
    assert document == {
        "channel": "smtp",
        "envelope": "a@example.com",
        "recipient": "b@example.org",
        "recipients": ["b@example.org"],
        "received": "2026-03-01 12:00:00",
        "seen": "2026-03-01 12:00:00",
        "hostname": "mx.example",
        "connection": SOURCE["connection"],
        "reply": {"state": "rcptto", "code": 550, "status": "5.7.1", "description": "No relay for you"},
    }


def test_a_refused_content() -> None:
    document = render(state="message", recipients=["b@example.org", "c@example.org"], content=CONTENT)
    assert "recipient" not in document
    assert document["recipients"] == ["b@example.org", "c@example.org"]
    assert document["mime"].encode() == CONTENT.replace(b"X-MQ-Smarthost-Password: secret\r\n", b"")
    assert (document["size"], document["truncated"]) == (len(CONTENT), False)
    assert document["extracted"]["subject"] == "hello"
    assert "secret" not in orjson.dumps(document).decode()


@pytest.mark.parametrize(
    ("content", "missing", "limit", "shown", "truncated"),
    [
        (b"a" * 100, 0, 100, b"a" * 100, False),
        (b"a" * 101, 0, 100, b"a" * 100, True),
        (b"a" * 100, 7, 100, b"a" * 100, True),
        (b"", 0, 100, b"", False),
        (b"", 5, 100, b"", True),
        (b"a" * 99 + "\u20ac".encode(), 0, 100, b"a" * 99, True),
        (b"\xff" * 200, 0, 100, b"\xff" * 100, True),
        (bytes(range(256)), 0, 1000, bytes(range(256)), False),
        (b"nul \0 and \r alone", 0, 1000, b"nul \0 and \r alone", False),
    ],
    ids=["fits", "cut", "more came", "nothing", "nothing of five", "a character cut", "octets cut", "every octet", "controls"],
)
def test_content_is_cut_and_always_json(content: bytes, missing: int, limit: int, shown: bytes, truncated: bool) -> None:
    document = render(limit, state="message", content=content, missing=missing)
    got = base64.b64decode(document["mime64"]) if "mime64" in document else document["mime"].encode()
    assert (got, document["truncated"], document["size"]) == (shown, truncated, len(content) + missing)


def test_no_content_at_all() -> None:
    document = render(0, state="message", content=CONTENT)
    assert not {"mime", "mime64"} & set(document)
    assert (document["size"], document["truncated"]) == (len(CONTENT), True)


def test_cutting() -> None:
    assert cut_content("\u20ac\u20ac".encode(), 6) == "\u20ac\u20ac".encode()
    assert [len(cut_content("\u20ac\u20ac".encode(), limit)) for limit in range(7)] == [0, 0, 0, 3, 3, 3, 6]
    assert cut_content(b"\x80" * 10, 8) == b"\x80" * 8


def test_a_path_in_an_argument() -> None:
    assert find_path("FROM:<a@example.com> SIZE=99999999999") == "a@example.com"
    assert find_path("FROM:<> SIZE=9") == ""
    assert find_path("nonsense") == ""
