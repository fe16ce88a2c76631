"""The header section: what results show of a mail, whatever the mail looks like."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.headers import (
    MAX_FIELDS,
    MAX_SECTION,
    cut_section,
    decode_words,
    parse_addresses,
    parse_extract,
    parse_header_section,
)

USUAL = (
    b"Received: from a.example (a.example [192.0.2.1])\r\n\tby b.example with ESMTPS id 1;\r\n\tMon, 23 Nov 2026 04:32:00 +0000\r\n"
    b"Received: from c.example by a.example; Mon, 23 Nov 2026 04:31:00 +0000\r\n"
    b'From: "Doe, Jane" <jane@example.org>\r\n'
    b"To: Joe <joe@example.com>, bob@example.net\r\n"
    b"To: carol@example.net\r\n"
    b"Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= =?utf-8?B?4oKs?= all\r\n"
    b"X-Empty:\r\n"
    b"\r\n"
    b"Subject: not a header\r\n"
)


def test_extract_of_a_usual_mail() -> None:
    assert parse_extract(USUAL) == {
        "from": "jane@example.org",
        "to": ["joe@example.com", "bob@example.net", "carol@example.net"],
        "subject": "Grüße€ all",
        "headers": {
            "received": [
                "from a.example (a.example [192.0.2.1])\tby b.example with ESMTPS id 1;\tMon, 23 Nov 2026 04:32:00 +0000",
                "from c.example by a.example; Mon, 23 Nov 2026 04:31:00 +0000",
            ],
            "from": '"Doe, Jane" <jane@example.org>',
            "to": ["Joe <joe@example.com>, bob@example.net", "carol@example.net"],
            "subject": "=?utf-8?Q?Gr=C3=BC=C3=9Fe?= =?utf-8?B?4oKs?= all",
            "x-empty": "",
        },
    }


def test_three_of_a_name_make_one_list_in_order() -> None:
    assert parse_extract(b"X: 1\nx: 2\nX: 3\n\n")["headers"] == {"x": ["1", "2", "3"]}


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (b"", []),
        (b"\r\nA: 1\r\n", []),
        (b"\nA: 1\n", []),
        (b"A: 1", [("A", "1")]),
        (b"A: 1\r\nB:2\r\n\r\nC: 3\r\n", [("A", "1"), ("B", "2")]),
        (b"A: 1\nB:2\n\nC: 3\n", [("A", "1"), ("B", "2")]),
        (b"A: 1\n\r\nC: 3\n", [("A", "1")]),
        (b"A: 1\r\n\nC: 3\n", [("A", "1")]),
        (b"A: one\r\n two\r\n\tthree\r\n\r\n", [("A", "one two\tthree")]),
        (b"A: 1\r\nno header\r\nB: 2\r\n\r\n", [("A", "1")]),
        (b"From me@x Mon Nov 23\nA: 1\n\n", [("A", "1")]),
        (b"A : 1\r\n\r\n", [("A", "1")]),
        (b"A B: 1\r\n\r\n", []),
        (b": 1\r\n\r\n", []),
        (b" A: 1\r\n\r\n", []),
        (b"A: \xc3\xbc\r\nB: \xfc\r\nC: \xc3\xbc\r\n\r\n", [("A", "ü"), ("B", "ü"), ("C", "ü")]),
        (b"A: a\0b\0\r\n\r\n", [("A", "ab")]),
        (b"A: \xed\xa0\x80\r\n\r\n", [("A", "í\xa0\x80")]),
        (b"A: b: c\r\n\r\n", [("A", "b: c")]),
    ],
)
def test_header_section(content: bytes, fields: list[tuple[str, str]]) -> None:
    assert parse_header_section(content) == fields


def test_only_so_many_fields_are_read() -> None:
    assert len(parse_header_section(b"A: 1\r\n" * (MAX_FIELDS + 1))) == MAX_FIELDS


def test_only_so_many_octets_are_read() -> None:
    content = b"A: 1\r\nB: " + b"x" * MAX_SECTION + b"\r\n\r\n"
    assert parse_header_section(content) == [("A", "1")]
    assert cut_section(b"x" * (MAX_SECTION + 1)) == b""


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("", []),
        ("a@x.de", ["a@x.de"]),
        ("<a@x.de>", ["a@x.de"]),
        (" A B <a@x.de> , b@y.de", ["a@x.de", "b@y.de"]),
        ('"A, B" <a@x.de>', ["a@x.de"]),
        ('"A \\" <no@no.de>, B" <a@x.de>', ["a@x.de"]),
        ("a@x.de (Jane, of (the) <no@no.de>)", ["a@x.de"]),
        ("Friends: a@x.de, B <b@y.de>;, c@z.de", ["a@x.de", "b@y.de", "c@z.de"]),
        ("undisclosed-recipients:;", []),
        ("<@r.de,@s.de:a@x.de>", ["a@x.de"]),
        ('"a@b"@x.de', ['"a@b"@x.de']),
        ("a@[IPv6:2001:db8::1]", ["a@[IPv6:2001:db8::1]"]),
        ("MAILER-DAEMON", ["MAILER-DAEMON"]),
        ("Jane Doe", []),
        ("<a@x.de", ["a@x.de"]),
        ('"', []),
        ("((((", []),
    ],
)
def test_addresses(value: str, addresses: list[str]) -> None:
    assert parse_addresses([value]) == addresses


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?a_b=3D?=", "a b="),
        ("=?UTF-8?B?w7w=?=", "ü"),
        ("=?UTF-8?B?w7w?=", "ü"),
        ("=?utf-8?b?w7w=?=\t =?utf-8?b?w7w=?=", "üü"),
        ("=?utf-8?b?w7w=?= =?iso-8859-1?q?=FC?=", "üü"),
        ("=?utf-8?b?ww==?= =?utf-8?b?vA==?=", "ü"),
        ("a =?utf-8?q?b?= c =?utf-8?q?d?=", "a b c d"),
        ("=?utf-8*de?q?b?=", "b"),
        ("=?no-such?q?b?= x", "=?no-such?q?b?= x"),
        ("=?utf-8?q?b?= =?no-such?q?c?=", "b =?no-such?q?c?="),
        ("=?utf-8?b?!?=", ""),
        ("=?utf-8?b?a?=", "=?utf-8?b?a?="),
        ("=?utf-8?q?b", "=?utf-8?q?b"),
        ("=?utf-7?q?+2AA-?=", "?"),
        ("=?unicode_escape?q?=5Cud800?=", "=?unicode_escape?q?=5Cud800?="),
        ("=?utf-8?q?a=0D=0ABcc:_x=00?=", "a  Bcc: x"),
        ("=?hex?q?41?=", "=?hex?q?41?="),
    ],
)
def test_encoded_words(value: str, text: str) -> None:
    assert decode_words(value) == text


HOSTILE = [
    b'From: "' + b"a" * 250_000,
    b"From: " + b"(" * 250_000,
    b"From: " + b"a@:" * 80_000,
    b"From: " + b"<" * 250_000,
    b"From: " + b'"' * 250_000,
    b"From: " + b"\\" * 250_000,
    b"To: " + b"a@b.c," * 40_000,
    b"Subject: " + b"=?" * 8_000,
    b"Subject: " + b"=?utf-8?q?" * 1_600,
    b"Subject: =?utf-8?b?" + b"A" * 16_000,
    b"A:\r\n" + b" \r\n" * 80_000,
    b"A: " + b"\r" * 250_000,
    b"\n" * 250_000,
]


@pytest.mark.parametrize("content", HOSTILE, ids=lambda content: ascii(content[:16]))
def test_hostile_headers_cost_no_more_than_long_ones(content: bytes) -> None:
    began = time.process_time()
    parse_extract(content)
    assert time.process_time() - began < 0.5


@given(st.binary(max_size=400) | st.text(alphabet='AaFrom:to \t\r\n<>@,;"\\()=?utf-8qb\0ü', max_size=300).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_extract_is_always_clean_json(content: bytes) -> None:
    extract = parse_extract(content)
    text = json.dumps(extract, ensure_ascii=False)
    assert text.encode().decode() == text
    assert "\\u0000" not in text
    assert set(extract) == {"from", "to", "subject", "headers"}
    assert all(name == name.lower() for name in extract["headers"])


@given(
    st.lists(
        st.tuples(
            st.text("abcXYZ-09", min_size=1, max_size=12),
            st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=20), min_size=1, max_size=3),
        ),
        max_size=8,
    )
)
@settings(max_examples=150, deadline=None)
def test_what_is_folded_comes_back_unfolded(fields: list[tuple[str, list[str]]]) -> None:
    content = "".join(f"{name}: " + "\r\n ".join(parts) + "\r\n" for name, parts in fields).encode() + b"\r\nbody"
    assert parse_header_section(content) == [(name, " ".join(parts).strip(" \t")) for name, parts in fields]
