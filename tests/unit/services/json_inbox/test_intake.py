"""What is wrong with a message is said at the door, with the property's name."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from services.json_inbox.intake import Door, ForbiddenItem, InvalidItem, parse_items, parse_submission
from shared.acceptance import Origin, prepare
from shared.wire.document import WireError, parse_document

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
MIME = "Subject: hello\r\n\r\nhi\r\n"
DOOR = Door("127.0.0.1", "mx.example", frozenset({"outbox", "record"}), NOW, "trace-1")


def message(**properties: Any) -> dict[str, Any]:
    return {"recipient": "to@example.org", "mime": MIME} | properties


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ("text", None),
        ([], None),
        (None, None),
        ({"mime": MIME}, "recipient"),
        (message(recipient=""), "recipient"),
        (message(recipient=7), "recipient"),
        (message(recipient="a@@b"), "recipient"),
        (message(recipient="a@b\r\nRCPT TO:<c@d>"), "recipient"),
        (message(recipient="a@b.example, c@d.example"), "recipient"),
        (message(recipients=["a@b.example"]), "recipients"),
        ({"mime": MIME, "recipients": []}, "recipients"),
        ({"mime": MIME, "recipients": "a@b.example"}, "recipients"),
        ({"mime": MIME, "recipients": ["a@b.example", "x"]}, "recipients[1]"),
        (message(envelope="nobody"), "envelope"),
        (message(envelope=5), "envelope"),
        (message(mime=None), "mime"),
        (message(mime=""), "mime"),
        (message(mime=["x"]), "mime"),
        (message(mime64="YQ=="), "mime64"),
        ({"recipient": "a@b.example", "mime64": "not base64!"}, "mime64"),
        ({"recipient": "a@b.example", "mime64": 5}, "mime64"),
        ({"recipient": "a@b.example", "mime64": ""}, "mime64"),
        ({"recipient": "a@b.example", "key": "v1/x"}, "key"),
        (message(mime={"subject": "no author"}), "mime.from"),
        (message(mime={"from": "a@b.example", "subject": "x\r\nBcc: c@d"}), "mime.subject"),
        (message(queues={"success": "outbox"}), "queues.success"),
        (message(queues=["x"]), "queues"),
        (message(maxdelivertime="tomorrow"), "maxdelivertime"),
        (message(maxattempts=-1), "maxattempts"),
        (message(retries=[0]), "retries"),
        (message(strategy="pigeon"), "strategy"),
        (message(security="please"), "security"),
        (message(nextattempt={"time": "soon"}), "nextattempt.time"),
        (message(ips=["localhost"]), "ips"),
        (message(dkim={"domain": "example.org"}), "dkim.selector"),
        (message(data={"name": "you"}), "data"),
        (message(**{"message-id": "a\r\nb"}), "message-id"),
        (message(**{"message-id": 5}), "message-id"),
        (message(key="v1/x"), "key"),
        (message(envelope="a@b.example\r\nRCPT TO:<c@d.example>"), "envelope"),
        (message(recipient="a\x00@b.example"), "recipient"),
        (message(headers={"append": {"X": "1\r\nBcc: c@d.example"}}), "headers.append.X"),
        (message(headers={"prepend": {"X:\r\nY": "1"}}), "headers.prepend.X"),
        (message(mime={"from": {"name": "A\r\nBcc: c@d.example", "address": "a@b.example"}}), "mime.from.name"),
        (message(mime={"from": "a@b.example", "headers": {"X": "1\nY: 2"}}), "mime.headers.X"),
        (message(mime={"from": "a@b.example", "headers": {"X\r\nY": "1"}}), "mime.headers"),
        (message(dsn={"envid": "a\r\nb"}), "dsn.envid"),
        (message(dsn={"orcpt": "rfc822;a\r\nb"}), "dsn.orcpt"),
        (message(queues={"success": "x" * 256}), "queues.success"),
        (message(priority=256), "priority"),
        (message(priority=True), "priority"),
    ],
)
def test_what_is_wrong_is_named(item: Any, field: str | None) -> None:
    with pytest.raises(InvalidItem) as caught:
        parse_submission(item, DOOR)
    assert caught.value.field == field
    if field is not None:
        assert caught.value.reason.startswith(field)
    assert caught.value.reason.isprintable()


def test_a_secret_stays_out_of_the_reason() -> None:
    with pytest.raises(InvalidItem) as caught:
        parse_submission(message(smarthost={"hostname": "relay.example", "username": 5, "password": "hunter2"}), DOOR)
    assert caught.value.field == "smarthost.username"
    assert "hunter2" not in caught.value.reason


def test_what_only_we_write_is_dropped_and_the_rest_kept() -> None:
    claimed = {
        "id": "theirs", "transaction": "theirs", "results": [{"state": "message"}], "channel": "smtp", "seen": "1999-01-01 00:00:00",
        "sha256": "0", "outbound": ["smtp"], "connection": {"user": "root"}, "http": {"token": "root"}, "received": "x",
    }  # fmt: skip
    submission = parse_submission(message(**claimed, unknown={"nested": [1, None]}, tags=["a"], keepmime=1), DOOR)
    assert submission.properties == {"unknown": {"nested": [1, None]}, "tags": ["a"], "keepmime": 1}
    mail = parse_document(prepare(submission, NOW, 10_000, "inbox").mails[0].mail)
    assert mail["channel"] == "json"
    assert mail["http"] == {"token": None, "remote-ip": "127.0.0.1"}
    assert mail["unknown"] == {"nested": [1, None]}
    assert "results" not in mail
    assert "connection" not in mail
    assert mail["id"] != "theirs"


def test_a_received_header_is_prepended_and_nothing_else_changes() -> None:
    content = parse_submission(message(), DOOR).content
    assert content.endswith(MIME.encode())
    trace = content.removesuffix(MIME.encode()).decode()
    assert trace.endswith("\r\n")
    assert " ".join(trace.split()) == (
        "Received: from [127.0.0.1] ([127.0.0.1]) by mx.example with HTTP id trace-1"
        " for <to@example.org>; Mon, 23 Nov 2026 12:00:00 +0000"
    )


def test_recipients_share_the_content_and_do_not_learn_of_each_other() -> None:
    submission = parse_submission({"recipients": ["a@b.example", "c@d.example"], "mime": MIME}, DOOR)
    assert [recipient.address for recipient in submission.recipients] == ["a@b.example", "c@d.example"]
    assert b"a@b.example" not in submission.content
    assert b"c@d.example" not in submission.content


def test_content_that_is_not_utf_8_keeps_its_bytes() -> None:
    submission = parse_submission({"recipient": "a@b.example", "mime64": "U3ViamVjdDogeAoK/w=="}, DOOR)
    assert submission.content.endswith(b"Subject: x\n\n\xff")


def test_structured_mail_becomes_a_message() -> None:
    mail = {"from": "Åsa <a@b.example>", "to": "c@d.example", "subject": "hi", "content": "<p>hello</p>"}
    content = parse_submission(message(mime=mail), DOOR).content
    assert b"\r\nContent-Type: multipart/alternative" in content
    assert b"Date: Mon, 23 Nov 2026 12:00:00 +0000" in content


def test_the_null_reverse_path() -> None:
    assert parse_submission(message(), DOOR).reverse_path == ""
    assert parse_submission(message(envelope=""), DOOR).reverse_path == ""
    assert parse_submission(message(envelope="<>"), DOOR).reverse_path == ""
    assert parse_submission(message(envelope="me@example.org"), DOOR).reverse_path == "me@example.org"


STORED = {"recipient": "a@b.example", "key": "mine/2026/letter"}


def test_content_that_lies_in_the_store_already_is_named_and_not_touched() -> None:
    submission = parse_submission(STORED | {"keepmime": True}, replace(DOOR, key_prefix="mine/"))
    prepared = prepare(submission, NOW, 0, "inbox")
    assert prepared.key is None
    [ready] = prepared.mails
    for body in (ready.mail, ready.record):
        document = parse_document(body)
        assert document["key"] == "mine/2026/letter"
        # Nobody has seen the content: without a checksum the sender fetches it as a client's own.
        assert not {"sha256", "size", "extracted", "mime", "mime64"} & set(document)
        assert document["keepmime"] is True


@pytest.mark.parametrize(
    "key", ["other/x", "mine/../v1/x", "mine/", "mine", "/mine/x", "mine//x", "mine/a\x00b", 5, ["mine/x"], "mine/" + "x" * 600]
)
def test_a_key_that_a_client_may_not_name(key: Any) -> None:
    with pytest.raises(InvalidItem) as caught:
        parse_submission(STORED | {"key": key}, replace(DOOR, key_prefix="mine/"))
    assert (caught.value.field, caught.value.status) == ("key", 422)


@pytest.mark.parametrize(
    ("property", "value"),
    [
        ("smarthost", {"hostname": "relay.example", "password": "hunter2"}),
        ("queues", {"success": "mine"}),
        ("queues", {}),
        ("ips", ["192.0.2.1"]),
        ("key", "mine/x"),
    ],
    ids=["smarthost", "queues", "no-queues", "ips", "key"],
)
def test_where_mail_goes_is_for_the_scope_route(property: str, value: Any) -> None:
    item = {property: value, "recipient": "a@b.example"} | ({} if property == "key" else {"mime": MIME})
    with pytest.raises(ForbiddenItem) as caught:
        parse_submission(item, replace(DOOR, scopes=frozenset(["send"])))
    assert (caught.value.field, caught.value.status) == (property, 403)
    assert "'route'" in caught.value.reason
    assert "hunter2" not in caught.value.reason
    parse_submission(item, replace(DOOR, scopes=frozenset(["send", "route"]), key_prefix="mine/"))


def test_the_mail_tells_which_token_brought_it() -> None:
    [ready] = prepare(parse_submission(message(), replace(DOOR, token="shop")), NOW, 10_000, "inbox").mails
    assert parse_document(ready.mail)["http"] == {"token": "shop", "remote-ip": "127.0.0.1"}


def test_a_request_that_is_asked_again_makes_the_same_mails() -> None:
    item = {
        "recipients": ["a@b.example", "c@d.example"],
        "mime": {"from": "a@b.example", "text": "hi", "content": "<p>hi</p>"},
    }

    def make(seed: int, index: int) -> list[bytes]:
        door = replace(DOOR, seed=UUID(int=seed))
        return [ready.mail for ready in prepare(parse_submission(item, door, index), NOW, 10_000, "inbox").mails]

    first = make(1, 0)
    assert make(1, 0) == first
    ids = {parse_document(mail)["id"] for mail in [*first, *make(1, 1), *make(2, 0)]}
    assert len(ids) == 6
    assert len({parse_document(mail)["transaction"] for mail in [*first, *make(1, 1), *make(2, 0)]}) == 3


def test_an_object_a_list_and_lines() -> None:
    assert parse_items(b'{"a": 1}', by_line=False) == ([{"a": 1}], False)
    assert parse_items(b'[{"a": 1}, 2]', by_line=False) == ([{"a": 1}, 2], True)
    items, is_list = parse_items(b'{"a": 1}\r\n\n  \n{"a": 1, "a": 2}\n{"b": 2}', by_line=True)
    assert is_list
    assert (items[0], items[2]) == ({"a": 1}, {"b": 2})
    assert isinstance(items[1], WireError)
    assert "stands twice" in str(items[1])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'[{"a": 1, "a": 2}]', "stands twice"),
        (b'{"a": 123456789012345678901}', "64 bits"),
        (b'{"a": NaN}', "not JSON"),
        (b"[" * 102 + b"]" * 102, "deeper"),
        (b"[" * 100_000 + b"]" * 100_000, "not JSON"),
        (b'{"a": "\\ud800"}', "not JSON"),
    ],
)
def test_a_body_that_would_be_read_in_two_ways_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        parse_items(body, by_line=False)


def test_a_mail_is_known_again_by_its_request_and_its_place_in_it() -> None:
    def origin(digest: str, index: int, client: str = "token shop") -> Origin | None:
        return parse_submission(message(), replace(DOOR, client=client, digest=digest), index).origin

    same = origin("d", 0)
    assert same is not None
    assert origin("d", 0) == same
    # Twice in one request: two mails. Another request, another client: another mail.
    assert len({same, origin("d", 1), origin("e", 0), origin("d", 0, client="token other")}) == 4
    assert origin("", 0) is None
    assert origin("d", 0, client="") is None
