"""A mail on its way: whom we believe, and what is never lost."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest

from shared.wire.document import WireError
from shared.wire.message import OURS, Message, parse_inline_content, parse_message, render_inline_content

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
TRUSTED: dict[str, Any] = {
    "id": "11111111-2222-3333-4444-555555555555",
    "transaction": "99999999-2222-3333-4444-555555555555",
    "recipients-total": 3,
    "channel": "smtp",
    "seen": "2026-03-01 11:00:00",
    "size": 7,
    "sha256": "ab",
    "return-path": "r@a.example",
    "outbound": ["seal"],
    "results": [{"state": "rcptto", "result": "error", "attempt": 1}],
    "extracted": {"subject": "hi", "headers": {}},
}


def parse(document: Any, *, is_ours: bool) -> Message:
    return parse_message(orjson.dumps(document), encoding=None, is_ours=is_ours, now=NOW)


def test_ours_is_believed() -> None:
    message = parse(TRUSTED | {"recipient": "a@b.example", "x-unknown": [1, None]}, is_ours=True)
    assert message.document == TRUSTED | {"recipient": "a@b.example", "x-unknown": [1, None]}
    assert (message.id, message.transaction, message.recipients_total) == (TRUSTED["id"], TRUSTED["transaction"], 3)
    assert (message.channel, message.seen) == ("smtp", datetime(2026, 3, 1, 11, tzinfo=UTC))
    assert message.attempt == 2


def test_from_anybody_else_it_starts_a_new_life() -> None:
    """An application may publish a result back to send the mail again."""
    mine = {"recipient": "a@b.example", "message-id": "client-1", "tags": ["x"], "nextattempt": {"time": "2026-03-02 00:00:00"}}
    message = parse(TRUSTED | mine, is_ours=False)
    assert {name: message.document[name] for name in mine} == mine
    assert set(message.document) - set(mine) == {"id", "transaction", "recipients-total", "channel", "seen"}
    assert message.id != TRUSTED["id"]
    assert UUID(message.id).version == 4
    assert (message.transaction, message.recipients_total, message.channel, message.attempt) == (message.id, 1, "amqp", 1)
    assert message.seen == NOW


def test_two_messages_get_two_ids() -> None:
    assert parse({}, is_ours=False).id != parse({}, is_ours=False).id


def test_ours_without_an_id_is_new() -> None:
    message = parse({"recipient": "a@b.example", "results": [{}]}, is_ours=True)
    assert (message.attempt, message.channel) == (1, "amqp")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", 7), ("id", ""), ("id", None), ("id", "a\r\nX: y"), ("id", "a\0"), ("id", "x" * 201),
        ("transaction", 7), ("transaction", None), ("channel", ["smtp"]), ("seen", 7),
        ("seen", "yesterday"), ("seen", "2026-02-30 00:00:00"), ("results", {}), ("results", None), ("results", ["x"]), ("results", [[]]),
        ("recipients-total", "3"), ("recipients-total", True), ("recipients-total", 1.5), ("size", "big"), ("sha256", 7),
        ("outbound", "seal"),
        ("extracted", []), ("extracted", "x"), ("extracted", None), ("return-path", {}), ("extracted", {"headers": []}),
    ],
)  # fmt: skip
def test_ours_with_an_impossible_property_is_parked(name: str, value: Any) -> None:
    """The app-id can be claimed by anybody who may publish: what they write must not end a process."""
    with pytest.raises(WireError, match=rf"^{name}"):
        parse(TRUSTED | {name: value}, is_ours=True)


def test_ours_without_seen_is_parked() -> None:
    with pytest.raises(WireError, match="seen"):
        parse({"id": "x"}, is_ours=True)


@pytest.mark.parametrize("name", sorted(OURS))
def test_nobody_else_can_write_our_properties(name: str) -> None:
    fresh = {"id", "transaction", "recipients-total", "channel", "seen"}
    message = parse({name: "forged"}, is_ours=False)
    assert message.document.get(name) != "forged"
    assert (name in message.document) == (name in fresh)


@pytest.mark.parametrize(
    ("envelope", "reverse_path"), [("a@b.example", "a@b.example"), ("", ""), ("<>", ""), (None, ""), (7, ""), ([], "")]
)
def test_reverse_path(envelope: Any, reverse_path: str) -> None:
    assert Message({"envelope": envelope}).reverse_path == reverse_path
    assert Message({}).reverse_path == ""


@pytest.mark.parametrize(("recipient", "expected"), [("a@b.example", "a@b.example"), (None, ""), (["a@b.example"], ""), (7, "")])
def test_recipient_is_a_text_whatever_it_is(recipient: Any, expected: str) -> None:
    assert Message({"recipient": recipient}).recipient == expected


@pytest.mark.parametrize(("total", "expected"), [(5, 5), (0, 1), (-1, 1), ("x", 1), (None, 1)])
def test_recipients_total(total: Any, expected: int) -> None:
    assert Message({"recipients-total": total}).recipients_total == expected


@pytest.mark.parametrize(("keepmime", "keeps"), [(True, True), (1, True), (False, False), (0, False), (None, False)])
def test_payload_is_removed_unless_keepmime(keepmime: Any, keeps: bool) -> None:
    payload = {"mime": "x", "mime64": "eA==", "key": "k"}
    message = Message({"id": "1", "keepmime": keepmime, **payload})
    assert message.without_payload().document == {"id": "1", "keepmime": keepmime} | (payload if keeps else {})


def test_a_message_never_changes() -> None:
    message = Message({"id": "1", "mime": "x"})
    changed = message.with_properties({"results": [1]}, without=("mime",))
    assert message.document == {"id": "1", "mime": "x"}
    assert changed.document == {"id": "1", "results": [1]}


@pytest.mark.parametrize("content", [b"", b"a\r\n", "é\r\n".encode(), b"\xff\xfe\x00", bytes(range(256))])
def test_inline_content_comes_back(content: bytes) -> None:
    properties = render_inline_content(content)
    assert parse_inline_content(Message(properties)) == content
    assert ("mime64" in properties) == (b"\xff" in content)


def test_inline_content_elsewhere_or_impossible() -> None:
    assert parse_inline_content(Message({"key": "k"})) is None
    assert parse_inline_content(Message({"mime": {"subject": "x"}})) is None
    assert parse_inline_content(Message({"mime": "a", "mime64": base64.b64encode(b"b").decode()})) == b"b"
    for wrong in ("!", "YQ", 7, ["YQ=="], "YQ==\n", "é"):
        with pytest.raises(ValueError, match="mime64: expected a base64 string"):
            parse_inline_content(Message({"mime64": wrong}))
    for odd in (7, ["x"], True):
        with pytest.raises(ValueError, match="mime: expected a string or an object"):
            parse_inline_content(Message({"mime": odd}))


def test_gzip_is_read_and_written() -> None:
    message = parse(TRUSTED, is_ours=True)
    body = message.render("gzip")
    assert body[:2] == b"\x1f\x8b"
    assert parse_message(body, encoding="gzip", is_ours=True, now=NOW) == message
