"""Header fields as octets: where they stand, and how new ones are written."""

from __future__ import annotations

import time
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import SMTP

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.fields import find_section, iterate_fields, render_field, unfold
from shared.mail.headers import MAX_SECTION, parse_header_section


@pytest.mark.parametrize(
    ("content", "start", "end", "body"),
    [
        (b"", 0, 0, 0),
        (b"\r\nbody", 0, 0, 2),
        (b"\nbody", 0, 0, 1),
        (b"hello", 0, 0, 0),
        (b" hello: x\r\n", 0, 0, 0),
        (b"A: 1", 0, 4, 4),
        (b"A: 1\r\n", 0, 6, 6),
        (b"A: 1\r\n\r\nb", 0, 6, 8),
        (b"A: 1\n\nb", 0, 5, 6),
        (b"A : 1\r\n 2\r\n\t3\r\nB:\r\n\r\nC: 3\r\n", 0, 19, 21),
        (b"A: 1\r\njunk\r\nB: 2\r\n\r\n", 0, 6, 6),
        (b"From me today\r\nA: 1\r\n\r\nb", 15, 21, 23),
        (b"From: me\r\n\r\nb", 0, 10, 12),
        (b"From me\r\n", 9, 9, 9),
        (b":x\r\n", 0, 0, 0),
    ],
)
def test_where_the_header_section_is(content: bytes, start: int, end: int, body: int) -> None:
    section = find_section(content)
    assert (section.start, section.end, section.body) == (start, end, body)
    inside = find_section(b"zz" + content + b"X: 1\r\n", 2, 2 + len(content))
    assert (inside.start, inside.end, inside.body) == (start + 2, end + 2, body + 2)


@given(st.text(alphabet="AB:1 \t\r\nFrom", max_size=60).map(str.encode))
@settings(max_examples=400, deadline=None)
def test_cut_and_read_agree(content: bytes) -> None:
    """The section that is cut holds the fields that ``shared.mail.headers`` reads."""
    if b"\r" in content.replace(b"\r\n", b""):
        return
    cut = [found["name"].decode() for found in iterate_fields(content, find_section(content))]
    assert cut == [name for name, _ in parse_header_section(content)]


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("X", "1", "X: 1\r\n"),
        ("X", "", "X:\r\n"),
        ("X", " 1 ", "X: 1\r\n"),
        ("Subject", "Grüße", "Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"),
        ("To", "Jürgen <j@x.de>, k@x.de", "To: =?utf-8?q?J=C3=BCrgen?= <j@x.de>, k@x.de\r\n"),
        ("To", '"Jürgen, K" <j@x.de> (Büro)', "To: =?utf-8?q?J=C3=BCrgen=2C_K?= <j@x.de> (=?utf-8?b?QsO8cm8=?=)\r\n"),
        ("X", "a" * 70 + " " + "b" * 70 + " c", "X: " + "a" * 70 + "\r\n " + "b" * 70 + " c\r\n"),
        ("X", "a" * 300, "X: " + "a" * 300 + "\r\n"),
    ],
)
def test_a_field_as_it_is_written(name: str, value: str, written: str) -> None:
    assert render_field(name, value).decode() == written


@pytest.mark.parametrize("value", ["jürgen@x.de", "J <jürgen@x.de>", '"ü', "k@x.de, j@ü.de"])
def test_an_address_has_no_encoded_words(value: str) -> None:
    with pytest.raises(ValueError, match="expected addresses"):
        render_field("To", value)


@pytest.mark.parametrize("value", ["ü", "a" * 1000])
def test_a_field_with_a_syntax_of_its_own_stays_in_ascii(value: str) -> None:
    with pytest.raises(ValueError, match="ASCII words"):
        render_field("Content-Type", value)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]) | st.just(" "), max_size=300))
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_by_others(value: str) -> None:
    written = render_field("X-Long-Name", value)
    assert written.isascii()
    assert written.endswith(b"\r\n")
    lines = written[:-2].split(b"\r\n")
    assert all(line.startswith(b" ") and line.strip() for line in lines[1:])
    assert all(len(line) <= 78 or b" " not in line.strip() for line in lines[1:])
    if "=?" not in value:
        read = message_from_bytes(written + b"\r\n")["X-Long-Name"].replace("\r\n", "").replace("\n", "")
        assert str(make_header(decode_header(read))) == value.strip(" \t")


def test_unfolding() -> None:
    assert unfold(b" a\r\n b\n\tc\r\n") == b"a b\tc"


@pytest.mark.parametrize(
    "content",
    [b"A:\r\n" * 500_000, b"A" * 5_000_000, b"A: 1\r\n" + b" \r\n" * 1_000_000, b"From x\n" * 500_000, b"\r" * 5_000_000],
)
def test_crafted_sections_cost_no_more_than_long_ones(content: bytes) -> None:
    assert len(content) > MAX_SECTION
    began = time.process_time()
    find_section(content)
    assert time.process_time() - began < 1


def test_policy_of_the_reader() -> None:
    """The independent reader sees a folded value whole."""
    written = render_field("Subject", "word " * 60)
    assert message_from_bytes(written + b"\r\n", policy=SMTP)["Subject"] == ("word " * 60).strip()
