"""The JSON edge: a body becomes mails, or ``WireError`` and ``InvalidItem`` say why not; nothing else is ever raised."""

import json
from contextlib import suppress
from datetime import UTC, datetime

from services.json_inbox.intake import Door, InvalidItem, parse_items, parse_submission
from shared.acceptance import prepare
from shared.mail.content import has_bare_newlines
from shared.wire.document import WireError, decompress, parse_document, parse_json, render_document

_NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
_DOORS = [
    Door("127.0.0.1", "mx.example", frozenset({"outbox"}), _NOW, "trace", key_prefix="mine/"),
    Door("192.0.2.1", "mx.example", frozenset({"outbox"}), _NOW, "trace", token="app", scopes=frozenset({"send"})),
]
_STRUCTURED = {
    "from": {"name": "A", "address": "a@example.org"}, "to": ["b@example.org"], "replyTo": "c@example.org", "subject": "s", "text": "t",
    "content": "<p>", "headers": {"X-A": "b"}, "attachments": [{"data": "YQ==", "name": "a.txt", "type": "text/plain", "content-id": "c"}],
}  # fmt: skip
_PROPERTIES = {
    "envelope": "a@example.org", "message-id": "m", "tags": ["t"], "pool": "p", "ips": ["192.0.2.1"],
    "smarthost": {"hostname": "h", "port": 25},
    "queues": {"success": "q"}, "maxattempts": 3, "maxdelivertime": "2030-01-01 00:00:00", "retries": [1], "strategy": "smtp",
    "security": "required", "headers": {"append": {"X-B": "c"}}, "dsn": {"notify": ["NEVER"], "envid": "e"}, "priority": 1,
}  # fmt: skip
SEEDS = [
    b"\0" + json.dumps({"recipient": "b@example.org", "mime": "Subject: x\r\n\r\ny\r\n"}).encode(),
    b"\0" + json.dumps({"recipients": ["b@example.org", "c@example.org"], "mime": _STRUCTURED}).encode(),
    b"\1" + json.dumps([{"recipient": "b@example.org", "mime64": "eA==", **_PROPERTIES}, 5, None]).encode(),
    b"\2" + json.dumps({"recipient": "b@example.org", "key": "mine/x"}).encode() + b'\n\n{"a":1,"a":2}\n',
    b'\3{"n":[1e400,-1,18446744073709551616,"\\ud800",{}]}',
]
WORDS = [
    *(json.dumps(name).encode() for name in {*_PROPERTIES, *_STRUCTURED, "recipient", "recipients", "mime", "mime64", "key"}),
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"\\u0000", b"\\ud800", b"\\r\\n", b"null", b"true", b"1e9", b"-1", b"\n", b"[" * 101,
]  # fmt: skip


def run(data: bytes) -> None:
    """Raises when something is found."""
    judge(data)


def judge(data: bytes) -> list[str] | None:
    """What became of each message in a body: "a mail", or the field that is wrong; None: it holds none. Raises when something is found."""
    choice, raw = (data[:1] or b"\0")[0], data[1:]
    with suppress(WireError):
        decompress(raw, 10_000)
    with suppress(WireError):
        _check_meaning(raw)
    try:
        items, _ = parse_items(raw, by_line=bool(choice & 2))
    except WireError as error:
        str(error).encode()
        return None
    return [_take(item, _DOORS[choice & 1], index) for index, item in enumerate(items)]


def _check_meaning(raw: bytes) -> None:
    """What is accepted means the same to Python's own parser. Raises WireError."""
    value = parse_json(raw)
    if isinstance(value, dict | list):
        assert json.loads(raw) == value
    if isinstance(value, dict):
        parse_document(render_document(value))


def _take(item: object, door: Door, index: int) -> str:
    try:
        submission = parse_submission(item, door, index)
    except InvalidItem as error:
        # It must fit into a problem document.
        render_document({"field": error.field, "detail": error.reason})
        return str(error.field)
    if "route" not in door.scopes:
        assert not submission.key
        assert not {"smarthost", "ips", "queues"} & {name for name, value in submission.properties.items() if value is not None}
    assert submission.key or submission.content.startswith(b"Received: ")
    assert submission.key.startswith("mine/" if submission.key else "")
    if isinstance(item, dict) and isinstance(item.get("mime"), dict):
        assert not has_bare_newlines(submission.content)
        assert b"\0" not in submission.content
    for ready in prepare(submission, _NOW, 1024, "inbox").mails:
        parse_document(bytes(ready.mail))
        parse_document(bytes(ready.record))
    return "a mail"
