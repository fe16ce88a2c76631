"""X-MQ headers: which property each sets, what is refused, and that nothing else of the content changes."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.wire.instructions import QUEUES, Instructions, parse_instructions
from shared.wire.message import OURS, PAYLOAD, Message
from shared.wire.mq_headers import MAX_HEADERS, RESERVED, strip_mq_headers, take_mq_headers

OTHERS = {"results": None, "failure": None, "success": None, "retry": None}


def taken(*headers: str) -> dict[str, Any]:
    """The properties that these headers set; the rest of the content stays, wherever they stand."""
    block = "".join(f"{header}\r\n" for header in headers).encode()
    before, after = b"Received: us\r\n\tby us\r\n", b"Subject: x\r\n\r\nX-MQ-Tag: body\r\n"
    content, properties = take_mq_headers(before + block + after)
    assert content == before + after
    assert strip_mq_headers(before + block + after) == before + after
    return properties


@pytest.mark.parametrize(
    ("headers", "properties"),
    [
        (["X-MQ-Envelope: a@example.com"], {"envelope": "a@example.com"}),
        (["x-mq-envelope: <a@example.com>"], {"envelope": "a@example.com"}),
        (["X-MQ-ENVELOPE: <>"], {"envelope": ""}),
        (["X-MQ-IP: 192.0.2.1"], {"ips": ["192.0.2.1"]}),
        (["X-MQ-IP: 192.0.2.1, 2001:DB8::1", "x-mq-ip: 192.0.2.2"], {"ips": ["192.0.2.1", "2001:db8::1", "192.0.2.2"]}),
        (["X-MQ-Pool: bulk"], {"pool": "bulk"}),
        (["X-MQ-Tag: a b, c"], {"tags": ["a b, c"]}),
        (["X-MQ-Tag: a", "Other: 1", "X-MQ-Tag: =?utf-8?q?=C3=BC?="][::2], {"tags": ["a", "ü"]}),
        (["X-MQ-Delayed: 2030-01-02 03:04:05"], {"delayed": "2030-01-02 03:04:05"}),
        (["X-MQ-MaxDeliverTime:\r\n 2030-01-02\r\n\t03:04:05"], None),
        (["X-MQ-MaxDeliverTime:\r\n 2030-01-02\r\n 03:04:05"], {"maxdelivertime": "2030-01-02 03:04:05"}),
        (["X-MQ-MaxAttempts: 3"], {"maxattempts": 3}),
        (["X-MQ-MaxAttempts : 0"], {"maxattempts": 0}),
        (["X-MQ-Retries: 60, 120 300"], {"retries": [60, 120, 300]}),
        (["X-MQ-InlineCSS: true"], {"inlinecss": True}),
        (["X-MQ-KeepMime: 0"], {"keepmime": False}),
        (["X-MQ-KeepMime: 1"], {"keepmime": True}),
        (
            [
                "X-MQ-Smarthost-Hostname: mx.example",
                "X-MQ-Smarthost-Port: 587",
                "X-MQ-Smarthost-Username: me",
                "X-MQ-Smarthost-Password: a b",
            ],
            {"smarthost": {"hostname": "mx.example", "port": 587, "username": "me", "password": "a b"}},
        ),
        (["X-MQ-Dsn-Notify: success,Failure"], {"dsn": {"notify": ["SUCCESS", "FAILURE"]}}),
        (["X-MQ-Dsn-Notify: NEVER", "X-MQ-Dsn-Ret: hdrs"], {"dsn": {"notify": ["NEVER"], "ret": "HDRS"}}),
        (["X-MQ-Dsn-Orcpt: rfc822;a+b@x.de", "X-MQ-Dsn-Envid: E=1"], {"dsn": {"orcpt": "rfc822;a+b@x.de", "envid": "E=1"}}),
        (["X-MQ-Success-Queue: mine"], {"queues": OTHERS | {"success": "mine"}}),
        (
            ["X-MQ-Results-Queue: r", "X-MQ-Failure-Queue:", "X-MQ-Retry-Queue: again"],
            {"queues": {"results": "r", "failure": None, "success": None, "retry": "again"}},
        ),
        (["X-MQ-Campaign: 5"], {"campaign": "5"}),
        (["X-MQ-Campaign: 5", "X-MQ-CAMPAIGN: 6"], {"campaign": ["5", "6"]}),
        (["X-MQ-Foo:"], {"foo": ""}),
        (["X-MQ-Foo\r\n : folded"], {"foo": "folded"}),
    ],
)
def test_the_property_of_a_header(headers: list[str], properties: dict[str, Any] | None) -> None:
    if properties is None:
        with pytest.raises(ValueError, match="X-MQ-MaxDeliverTime"):
            taken(*headers)
        return
    assert taken(*headers) == properties


def test_the_sender_understands_what_is_set() -> None:
    """Each property has the type that ``shared.wire.instructions`` expects."""
    properties = taken(
        "X-MQ-Envelope: r@example.com", "X-MQ-IP: 192.0.2.1", "X-MQ-Tag: t", "X-MQ-Delayed: 2030-01-02 03:04:05",
        "X-MQ-MaxDeliverTime: 2031-01-02 03:04:05", "X-MQ-MaxAttempts: 3", "X-MQ-Retries: 60", "X-MQ-KeepMime: true",
        "X-MQ-Smarthost-Hostname: mx.example", "X-MQ-Smarthost-Port: 587", "X-MQ-Failure-Queue: mine", "X-MQ-Inlinecss: 0",
    )  # fmt: skip
    instructions = parse_instructions(Message({"id": "1", "recipient": "a@example.com"} | properties))
    assert isinstance(instructions, Instructions)
    assert (instructions.most_attempts, instructions.source_addresses) == (3, ("192.0.2.1",))
    assert instructions.not_before == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert instructions.queues == OTHERS | {"failure": "mine"}
    assert set(instructions.queues) < set(QUEUES)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("X-MQ-Envelope: a@b@c", "X-MQ-Envelope: 'a@b@c': expected a mail address, or <> ("),
        ("X-MQ-Envelope: ü@", "X-MQ-Envelope: '\\xfc@': expected a mail address"),
        ("X-MQ-IP: 1.2.3", "X-MQ-IP: '1.2.3': expected IP addresses"),
        ("X-MQ-IP: 192.0.2.1 x", "X-MQ-IP: '192.0.2.1 x': expected IP addresses"),
        ("X-MQ-IP:", "X-MQ-IP: '': expected IP addresses"),
        ("X-MQ-Pool:", "X-MQ-Pool: '': expected a text"),
        ("X-MQ-Delayed: tomorrow", "X-MQ-Delayed: 'tomorrow': expected UTC time as YYYY-MM-DD HH:MM:SS"),
        ("X-MQ-MaxAttempts: -1", "X-MQ-MaxAttempts: '-1': expected a whole number from 0"),
        ("X-MQ-MaxAttempts: ²", "X-MQ-MaxAttempts: '\\xb2': expected a whole number"),
        ("X-MQ-MaxAttempts: 99999999999", "X-MQ-MaxAttempts: '99999999999': expected a whole number"),
        ("X-MQ-Retries: 0", "X-MQ-Retries: '0': expected seconds"),
        ("X-MQ-Retries:", "X-MQ-Retries: '': expected seconds"),
        ("X-MQ-KeepMime: yes", "X-MQ-KeepMime: 'yes': expected true, false, 0 or 1"),
        ("X-MQ-Smarthost-Port: 25", "X-MQ-Smarthost-Port: expected X-MQ-Smarthost-Hostname"),
        ("X-MQ-Smarthost-Port: 0", "X-MQ-Smarthost-Port: '0': expected a whole number from 1 to 65535"),
        ("X-MQ-Smarthost-Hostname: a b", "X-MQ-Smarthost-Hostname: 'a b': expected the name"),
        ("X-MQ-Smarthost-Password:", "X-MQ-Smarthost-Password: expected a text that is not empty"),
        ("X-MQ-Smarthost-Password: secret", "X-MQ-Smarthost-Password: expected X-MQ-Smarthost-Hostname with it"),
        ("X-MQ-Dsn-Notify: never,failure", "X-MQ-Dsn-Notify: 'never,failure': expected NEVER, or"),
        ("X-MQ-Dsn-Ret: all", "X-MQ-Dsn-Ret: 'all': expected FULL or HDRS"),
        ("X-MQ-Dsn-Orcpt: a@x.de", "X-MQ-Dsn-Orcpt: 'a@x.de': expected the type"),
        ("X-MQ-Dsn-Envid: a b", "X-MQ-Dsn-Envid: 'a b': expected 1 to 100"),
        ("X-MQ-Retry-Queue: " + "q" * 256, "X-MQ-Retry-Queue: '" + "q" * 80 + "': expected a routing key"),
        ("X-MQ-Pool: a\r\nx-mq-pool: b", "X-MQ-Pool: given 2 times, expected once"),
        ("X-MQ-Foo: a\0", "X-MQ-Foo: expected a text without control"),
        ("X-MQ-Foo: " + "a" * 5000, "X-MQ-Foo: expected at most 4096 octets"),
        ("X-MQ-: a", "X-MQ-: not a header"),
        ("X-MQ-a$b: a", "X-MQ-a$b: not a header"),
        ("X-MQ-" + "a" * 100 + ": a", "X-MQ-" + "a" * 55 + ": not a header"),
        ("X-MQ-Tag", "X-MQ-...: expected it among the headers"),
        ("junk\r\nX-MQ-Tag: 1", "X-MQ-...: expected it among the headers"),
        ("X-MQ-Foo: 1\r\n" * MAX_HEADERS + "X-MQ-Foo: 1", "X-MQ-...: expected at most"),
        *((f"X-MQ-{name}: a", f"X-MQ-{name}: not a header") for name in sorted({*OURS, *PAYLOAD, "recipient", "strategy"})),
    ],
)
def test_what_is_refused(header: str, sentence: str) -> None:
    content = f"Received: us\r\n{header}\r\nSubject: x\r\n\r\nbody\r\n".encode()
    with pytest.raises(ValueError, match="X-MQ") as refused:
        take_mq_headers(content)
    reason = str(refused.value)
    assert reason.startswith(sentence)
    assert reason.isascii()
    assert reason.isprintable()
    assert len(reason) < 400
    assert "secret" not in reason
    assert b"x-mq-" not in strip_mq_headers(content).lower()


def test_a_value_that_is_not_utf8() -> None:
    with pytest.raises(ValueError, match="X-MQ-Tag: expected UTF-8"):
        take_mq_headers(b"X-MQ-Tag: \xff\r\n\r\n")


def test_every_property_with_a_meaning_is_reserved() -> None:
    assert OURS | set(PAYLOAD) <= RESERVED
    assert {"ips", "tags", "queues", "smarthost", "dsn", "connection", "http", "headers", "dkim"} <= RESERVED


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"X",
        b"Subject: X-MQ-Tag: 1\r\n x-mq-tag: 2\r\n\r\nX-MQ-Tag: 3",
        b"\r\nX-MQ-Tag: 1\r\n",
        b"\nX-MQ-Tag: 1\n",
        b"A: 1\n\nX-MQ-Tag: 1",
    ],
)
def test_content_without_such_headers_is_the_same_object(content: bytes) -> None:
    assert take_mq_headers(content) == (content, {})
    assert take_mq_headers(content)[0] is content
    assert strip_mq_headers(content) is content


def test_a_header_at_the_very_end() -> None:
    assert take_mq_headers(b"A: 1\r\nX-MQ-Tag: 1") == (b"A: 1\r\n", {"tags": ["1"]})
    assert take_mq_headers(b"X-MQ-Tag: 1\n\nbody") == (b"\nbody", {"tags": ["1"]})


@given(
    st.lists(
        st.sampled_from(
            [
                "Subject: x\r\n",
                "X-MQ-Tag: a\r\n",
                "x-mq-foo:\r\n b\r\n\tc\r\n",
                "To: x-mq-y:\r\n z\r\n",
                "X-MQ-Tag\t:  \r\n  d\r\n",
            ]
        ),
        max_size=8,
    ),
    st.binary(max_size=50),
)
def test_only_those_fields_go(fields: list[str], body: bytes) -> None:
    content = "".join(fields).encode() + b"\r\n" + body
    rest, properties = take_mq_headers(content)
    assert rest == "".join(field for field in fields if not field.lower().startswith("x-mq-")).encode() + b"\r\n" + body
    assert len(properties.get("tags", ())) == sum(field.startswith("X-MQ-Tag") for field in fields)


@pytest.mark.parametrize(
    "content", [b"X-MQ-Foo: 1\r\n" * 1_000_000, b"X-MQ-" * 4_000_000, b"A\nx-mq-" * 3_000_000, b"A: x-mq-\r\n" * 2_000_000]
)
def test_crafted_headers_cost_no_more_than_long_ones(content: bytes) -> None:
    began = time.process_time()
    with suppress(ValueError):
        take_mq_headers(content)
    strip_mq_headers(content)
    assert time.process_time() - began < 3
