"""The body of an AMQP message: strict where a lenient parser would corrupt silently."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.trouble import BadMessage
from shared.wire import document
from shared.wire.document import MAX_DEPTH, WireError, decompress, parse_document, parse_json, render_document

INT64 = st.integers(min_value=-(2**63), max_value=2**64 - 1)
TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
DOCUMENTS = st.dictionaries(TEXT, VALUES, max_size=6)


def nested(depth: int) -> bytes:
    """An object whose value is nested so deep that the whole has ``depth`` levels."""
    return b'{"a":' + b"[" * (depth - 1) + b"1" + b"]" * (depth - 1) + b"}"


@given(DOCUMENTS)
def test_what_is_rendered_comes_back_equal(value: dict[str, Any]) -> None:
    assert parse_document(render_document(value)) == value
    assert parse_document(render_document(value, "gzip"), "gzip") == value


@given(DOCUMENTS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_the_fast_way_and_the_strict_way_agree(value: dict[str, Any], ascii_only: bool, indent: int | str | None) -> None:
    foreign = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert parse_document(foreign) == parse_document(render_document(value)) == value


@given(st.text(alphabet='{}[]",:0123456789.eE-+ntrufalse \\u', max_size=40))
def test_whatever_is_accepted_is_what_the_strict_parser_reads(text: str) -> None:
    """Whether or not the fast way was taken, a body that is accepted means the same to Python's own parser."""
    try:
        ours = parse_json(text.encode())
    except WireError:
        return
    if isinstance(ours, dict | list):
        assert ours == json.loads(text)


def test_our_own_bodies_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(raw: bytes) -> None:
        raise AssertionError(f"parsed strictly: {raw!r}")

    monkeypatch.setattr(document, "_check_strictly", fail)
    assert parse_document(b'{"recipient":"a@b.example","retries":[1,2],"x":1.5,"mime":"\xc3\xa9\\r\\n"}')["retries"] == [1, 2]
    with pytest.raises(AssertionError, match="parsed strictly"):
        parse_document(b'{"recipient": "a@b.example"}')


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a":1}{"b":2}', "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        ('{"a":1}'.encode("utf-16"), "not JSON"),
        (b'{"a":"\xff"}', "not JSON"),
        (b'{"a":"\\ud800"}', "not JSON"),
        (b'{"a":NaN}', "not JSON"),
        (b'{"a":Infinity}', "not JSON"),
        (b'{"a":-Infinity}', "not JSON"),
        (b'{"a":1e999}', "not JSON"),
        (b'{"a":01}', "not JSON"),
        (b"[1]", "body is a JSON array, expected an object"),
        (b'"text"', "body is a JSON string, expected an object"),
        (b"null", "body is a JSON null, expected an object"),
        (b"true", "body is a JSON boolean, expected an object"),
        (b"7", "body is a JSON number, expected an object"),
        (b"1.5", "body is a JSON number, expected an object"),
        (b'{"a":1,"a":1}', "property 'a' stands twice in one object"),
        (b'{"x":{"b":1,"c":2,"b":1}}', "property 'b' stands twice in one object"),
        (b'{"x":[{"\\u0061":1,"a":2}]}', "property 'a' stands twice in one object"),
        (b'{"a":18446744073709551616}', "integer 18446744073709551616 does not fit into 64 bits"),
        (b'{"a":-9223372036854775809}', "integer -9223372036854775809 does not fit into 64 bits"),
        (b'{"a":12345678901234567890123}', "does not fit into 64 bits"),
        (b'{"a":[{"b":' + b"9" * 300 + b"}]}", "does not fit into 64 bits"),
    ],
)
def test_bodies_that_are_refused(body: bytes, reason: str) -> None:
    with pytest.raises(WireError) as refused:
        parse_document(body)
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 300
    assert isinstance(refused.value, BadMessage)


@pytest.mark.parametrize("number", [0, 2**53, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), 1234567890123456789])
def test_every_integer_of_64_bits_survives(number: int) -> None:
    for body in (b'{"id":%d}' % number, b'{ "id" : %d }' % number):
        assert parse_document(body) == {"id": number}
        assert isinstance(parse_document(body)["id"], int)


def test_depth() -> None:
    assert parse_document(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 254, 255, 1000, 5000, 200_000):
        with pytest.raises(WireError, match=r"nested deeper than 100|not JSON"):
            parse_document(nested(depth))
    wide: dict[str, Any] = {"a": [[] for _ in range(100_000)]}
    assert parse_document(render_document(wide)) == wide


def test_encodings() -> None:
    for encoding in (None, "", "identity", "utf-8"):
        assert parse_document(b"{}", encoding) == {}
    assert parse_document(gzip.compress(b'{"a": 1}', mtime=0), "gzip") == {"a": 1}
    for encoding in ("deflate", "br", "GZIP", "gzip, gzip"):
        with pytest.raises(WireError, match=r"content-encoding .*: expected gzip or none"):
            parse_document(gzip.compress(b"{}", mtime=0), encoding)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{}", "not gzip"),
        (b"", "not one whole gzip stream"),
        (gzip.compress(b"{}", mtime=0)[:-4], "not one whole gzip stream"),
        (gzip.compress(b"{}", mtime=0) + b"x", "not one whole gzip stream"),
        (gzip.compress(b"{", mtime=0) + gzip.compress(b"}", mtime=0), "not one whole gzip stream"),
        (gzip.compress(b"{}", mtime=0)[:-8] + b"\0" * 8, "not gzip"),
        (zlib.compress(b"{}"), "not gzip"),
    ],
)
def test_what_is_no_gzip_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        parse_document(body, "gzip")


def test_a_gzip_bomb_is_refused_at_the_limit() -> None:
    exact = gzip.compress(b"x" * 1000, mtime=0)
    assert decompress(exact, 1000) == b"x" * 1000
    with pytest.raises(WireError, match="larger than 999 bytes after decompression"):
        decompress(exact, 999)
    bomb = gzip.compress(b"\0" * 50_000_000, mtime=0)
    assert len(bomb) < 60_000
    with pytest.raises(WireError, match="larger than 100000 bytes"):
        decompress(bomb, 100_000)


def test_gzip_is_the_same_each_time() -> None:
    assert render_document({"a": 1}, "gzip") == render_document({"a": 1}, "gzip")
