"""Canonical forms: the RFC's own examples, the ends of bodies, odd headers."""

import time

import pytest

from shared.mail.canonical import (
    Canonicalization,
    Form,
    SplitContent,
    canonicalize_body,
    canonicalize_field,
    parse_canonicalization,
)

# RFC 6376 3.4.5, example 1 and 2.
EXAMPLE = b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n"


def test_the_examples_of_the_rfc() -> None:
    mail = SplitContent(EXAMPLE)
    assert mail.render_header([b"a", b"b"], Form.RELAXED) == b"a:X\r\nb:Y Z\r\n"
    assert mail.render_header([b"a", b"b"], Form.SIMPLE) == b"A: X\r\nB : Y\t\r\n\tZ  \r\n"
    body = EXAMPLE.partition(b"\r\n\r\n")[2]
    assert canonicalize_body(body, Form.RELAXED) == b" C\r\nD E\r\n"
    assert canonicalize_body(body, Form.SIMPLE) == b" C \r\nD \t E\r\n"


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        (b"", b"\r\n", b""),
        (b"\r\n", b"\r\n", b""),
        (b"\r\n\r\n\r\n", b"\r\n", b""),
        (b" ", b" \r\n", b""),
        (b" \t\r\n\t\r\n", b" \t\r\n\t\r\n", b""),
        (b"a", b"a\r\n", b"a\r\n"),
        (b"a ", b"a \r\n", b"a\r\n"),
        (b"a\r\n", b"a\r\n", b"a\r\n"),
        (b"a\r\n\r\n\r\n", b"a\r\n", b"a\r\n"),
        (b"a\r\n \r\n\r\n", b"a\r\n \r\n", b"a\r\n"),
        (b"\r\n\r\na", b"\r\n\r\na\r\n", b"\r\n\r\na\r\n"),
        (b"a\t \t b \t\r\n", b"a\t \t b \t\r\n", b"a b\r\n"),
        (b"\t a\r\n", b"\t a\r\n", b" a\r\n"),
        (b"a\x0b\x0c \r\n", b"a\x0b\x0c \r\n", b"a\x0b\x0c\r\n"),
        (b"a\r\r\n\r\n", b"a\r\r\n", b"a\r\r\n"),
        (b"a\n\r\n\r\n", b"a\n\r\n", b"a\n\r\n"),
        (b"a\n\r\r\n\r\n", b"a\n\r\r\n", b"a\n\r\r\n"),
        (b"\n\r\n\r\n", b"\n\r\n", b"\n\r\n"),
    ],
)
def test_bodies(body: bytes, simple: bytes, relaxed: bytes) -> None:
    assert canonicalize_body(body, Form.SIMPLE) == simple
    assert canonicalize_body(body, Form.RELAXED) == relaxed


@pytest.mark.parametrize(
    ("raw", "relaxed"),
    [
        (b"SUBJect: AbC", b"subject:AbC\r\n"),
        (b"X:", b"x:\r\n"),
        (b"X: \t ", b"x:\r\n"),
        (b"X \t:a", b"x:a\r\n"),
        (b"X: a\r\n b\r\n\tc", b"x:a b c\r\n"),
        (b"X: a:b  :c", b"x:a:b :c\r\n"),
        (b"X:\r\n \r\n a", b"x:a\r\n"),
        (b"X: \xfc\xa0\x0b ", b"x:\xfc\xa0\x0b\r\n"),
    ],
)
def test_fields(raw: bytes, relaxed: bytes) -> None:
    assert canonicalize_field(raw, Form.RELAXED) == relaxed
    assert canonicalize_field(raw, Form.SIMPLE) == raw + b"\r\n"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"", []),
        (b"\r\nA: 1\r\n", []),
        (b"A: 1", [b"a"]),
        (b"A: 1\r\nB: 2\r\n", [b"a", b"b"]),
        (b"A: 1\r\n\r\nB: 2\r\n", [b"a"]),
        (b"From me@x Mon 04:32\r\nA: 1\r\n\r\n", [b"a"]),
        (b"A: 1\r\nno field\r\n B: 2\r\nC: 3\r\n\r\n", [b"a", b"c"]),
        (b" A: 1\r\nB: 2\r\n\r\n", [b"b"]),
        (b": 1\r\nB: 2\r\n\r\n", [b"b"]),
        (b"A B: 1\r\nC: 2\r\n\r\n", [b"c"]),
    ],
)
def test_where_fields_begin_and_the_header_ends(content: bytes, names: list[bytes]) -> None:
    assert [field.name for field in SplitContent(content).fields] == names


def test_repeated_names_are_taken_from_the_bottom_up_and_then_stand_for_nothing() -> None:
    mail = SplitContent(b"A: 1\r\nB: 2\r\na: 3\r\n\r\n")
    assert mail.render_header([b"a"], Form.RELAXED) == b"a:3\r\n"
    assert mail.render_header([b"a", b"b", b"a", b"a", b"c"], Form.RELAXED) == b"a:3\r\nb:2\r\na:1\r\n"


def test_spelling_of_canonicalizations() -> None:
    assert parse_canonicalization("relaxed/simple") == Canonicalization(Form.RELAXED, Form.SIMPLE)
    assert parse_canonicalization("relaxed") == Canonicalization(Form.RELAXED, Form.SIMPLE)
    assert str(Canonicalization(Form.SIMPLE, Form.RELAXED)) == "simple/relaxed"
    for wrong in ("", "/", "relaxed/", "strict", "relaxed/relaxed/relaxed", "Relaxed"):
        with pytest.raises(ValueError, match="simple or relaxed"):
            parse_canonicalization(wrong)


@pytest.mark.parametrize("body", [b" " * 10**7, b"\r\n" * 10**6, b" \r\n" * 10**6, b"\r\n\n" * 10**6, b"\t \t" * 10**6])
def test_hostile_bodies_cost_linear_time(body: bytes) -> None:
    start = time.process_time()
    canonicalize_body(body, Form.RELAXED)
    assert time.process_time() - start < 2
