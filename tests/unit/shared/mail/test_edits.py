"""Header edits: what is refused, and that every octet that no edit names stays."""

from __future__ import annotations

from email import message_from_bytes
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.edits import MAX_EDITS, MAX_VALUE, HeaderEdits, apply_edits, parse_edits
from shared.mail.headers import parse_header_section

CONTENT = (
    b"Received: from a\r\n\tby b; now\r\nSubject :  Hello\r\n  you \r\nX-Two: 1\r\nx-two: 2\r\n\t2\r\n"
    b"X-ONE:\r\n\r\nX-Two: body\r\n\x80"
)


def edit(content: bytes, edits: Any) -> bytes:
    parsed = parse_edits(edits)
    assert parsed is not None
    return apply_edits(content, parsed)


@pytest.mark.parametrize("nothing", [None, {}, {"remove": []}, {"remove": None, "append": {}}, {"update": None}])
def test_nothing_to_do(nothing: Any) -> None:
    assert parse_edits(nothing) is None


@pytest.mark.parametrize(
    ("edits", "old", "new"),
    [
        ({"remove": "subject"}, b"Subject :  Hello\r\n  you \r\n", b""),
        ({"remove": ["X-TWO"]}, b"X-Two: 1\r\nx-two: 2\r\n\t2\r\n", b""),
        ({"remove": ["x-one", "absent"]}, b"X-ONE:\r\n\r\n", b"\r\n"),
        ({"remove": "received"}, b"Received: from a\r\n\tby b; now\r\n", b""),
        ({"prepend": {"A": ["1", "2"], "B": "3"}}, b"Received:", b"A: 1\r\nA: 2\r\nB: 3\r\nReceived:"),
        ({"append": {"A": ["1", "2"]}, "add": {"X-One": "3"}}, b"X-ONE:\r\n", b"X-ONE:\r\nA: 1\r\nA: 2\r\nX-One: 3\r\n"),
        ({"replace": {"SUBJECT": "new"}}, b"Subject :  Hello\r\n  you \r\n", b"SUBJECT: new\r\n"),
        ({"replace": {"X-Two": ["a", "b"]}}, b"X-Two: 1\r\nx-two: 2\r\n\t2\r\n", b"X-Two: a\r\nX-Two: b\r\n"),
        ({"replace": {"A": "1"}}, b"X-ONE:\r\n", b"X-ONE:\r\nA: 1\r\n"),
        ({"update": {"A": "1", "x-one": "2"}}, b"X-ONE:\r\n", b"x-one: 2\r\n"),
        ({"update": {"x-two": "u"}}, b"X-Two: 1\r\nx-two: 2\r\n\t2\r\n", b"x-two: u\r\n"),
        # The order: remove, replace, update, prepend, append.
        ({"remove": "x-one", "replace": {"X-One": "1"}, "append": {"B": "2"}}, b"X-ONE:\r\n", b"X-One: 1\r\nB: 2\r\n"),
        ({"remove": "x-one", "update": {"X-One": "1"}}, b"X-ONE:\r\n", b""),
        ({"remove": "x-one", "replace": {"X-One": "1"}, "update": {"x-one": "2"}}, b"X-ONE:\r\n", b"x-one: 2\r\n"),
        ({"replace": {"x-one": "1"}, "update": {"X-One": "2"}}, b"X-ONE:\r\n", b"X-One: 2\r\n"),
        ({"remove": "x-one", "append": {"X-One": "1"}}, b"X-ONE:\r\n", b"X-One: 1\r\n"),
        ({"append": {"Subject": "Grüße"}}, b"X-ONE:\r\n", b"X-ONE:\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"),
    ],
)  # fmt: skip
def test_an_edit_changes_its_fields_and_nothing_else(edits: Any, old: bytes, new: bytes) -> None:
    assert CONTENT.count(old) == 1
    assert edit(CONTENT, edits) == CONTENT.replace(old, new)
    unix = CONTENT.replace(b"\r\n", b"\n")
    assert edit(unix, edits) == CONTENT.replace(old, new).replace(b"\r\n", b"\n")


def test_the_same_object_when_nothing_changes() -> None:
    edits = parse_edits({"remove": "absent", "update": {"Absent": "1"}})
    assert edits is not None
    assert apply_edits(CONTENT, edits) is CONTENT


@pytest.mark.parametrize(
    ("content", "edited"),
    [
        (b"", b"P: 1\r\nA: 2\r\n"),
        (b"hello", b"P: 1\r\nA: 2\r\n\r\nhello"),
        (b"hello: this\r\n", b"P: 1\r\nhello: this\r\nA: 2\r\n"),
        (b"hello you\r\n\r\nX: 1\r\n", b"P: 1\r\nA: 2\r\n\r\nhello you\r\n\r\nX: 1\r\n"),
        (b"\r\nbody", b"P: 1\r\nA: 2\r\n\r\nbody"),
        (b"X: 1", b"P: 1\r\nX: 1\r\nA: 2\r\n"),
        (b"X: 1\r\n", b"P: 1\r\nX: 1\r\nA: 2\r\n"),
        (b"X: 1\n", b"P: 1\nX: 1\nA: 2\n"),
        (b"X: 1\r\njunk\r\n", b"P: 1\r\nX: 1\r\nA: 2\r\njunk\r\n"),
        (b"From x today\r\nX: 1\r\n\r\nb", b"From x today\r\nP: 1\r\nX: 1\r\nA: 2\r\n\r\nb"),
        (b"From x today\r\nhello", b"From x today\r\nP: 1\r\nA: 2\r\n\r\nhello"),
    ],
)
def test_content_of_every_shape(content: bytes, edited: bytes) -> None:
    assert edit(content, {"prepend": {"P": "1"}, "append": {"A": "2"}}) == edited


def test_removing_the_only_field() -> None:
    assert edit(b"X: 1", {"remove": "x"}) == b""
    assert edit(b"X: 1\r\n\r\nbody", {"remove": "x"}) == b"\r\nbody"
    assert edit(b"X: 1", {"replace": {"x": "2"}}) == b"x: 2\r\n"


@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        ("x", "headers: expected an object, not str"),
        ([], "headers: expected an object, not list"),
        ({"delete": "x"}, "headers.delete: expected one of remove,"),
        ({"remove": 5}, "headers.remove: 5: expected the name"),
        ({"remove": {"x": 1}}, "headers.remove: a dict: expected the name"),
        ({"remove": ["a b"]}, "headers.remove: a b: expected the name"),
        ({"remove": ""}, "headers.remove: : expected the name"),
        ({"append": "x"}, "headers.append: x: expected an object"),
        ({"append": ["x"]}, "headers.append: a list: expected an object"),
        ({"append": {"a:b": "x"}}, "headers.append.a:b: expected the name"),
        ({"append": {"a\r\nBcc": "x"}}, "headers.append.a\\r\\nBcc: expected the name"),
        ({"append": {"ü": "x"}}, "headers.append.\\xfc: expected the name"),
        ({"append": {"a" * 77: "x"}}, "headers.append." + "a" * 77 + ": expected the name"),
        ({"append": {"": "x"}}, "headers.append.: expected the name"),
        ({"replace": {"X": 5}}, "headers.replace.X: 5: expected a string"),
        ({"replace": {"X": None}}, "headers.replace.X: null: expected a string"),
        ({"replace": {"X": []}}, "headers.replace.X: expected a string, or a list of strings that is not empty"),
        ({"replace": {"X": ["a", 5]}}, "headers.replace.X: 5: expected a string"),
        ({"replace": {"X": "1", "x": "2"}}, "headers.replace.x: expected each name once"),
        ({"update": {"X": "a\r\nBcc: y"}}, "headers.update.X: a\\r\\nBcc: y: control character U+000D"),
        ({"prepend": {"X": "a\nb"}}, "headers.prepend.X: a\\nb: control character U+000A"),
        ({"add": {"X": "a\0"}}, "headers.add.X: a\\x00: control character U+0000"),
        ({"add": {"X": "\ud800"}}, "headers.add.X: \\ud800: control character U+D800"),
        ({"add": {"X": "x" * (MAX_VALUE + 1)}}, f"headers.add.X: expected at most {MAX_VALUE} characters"),
        ({"add": {"From": "ü@x.de"}}, "headers.add.From: \\xfc@x.de: expected addresses in ASCII"),
        ({"add": {"Date": "ü"}}, "headers.add.Date: \\xfc: expected a value of ASCII words"),
        ({"add": {"X": ["1"] * MAX_EDITS}, "remove": "y"}, f"headers: expected at most {MAX_EDITS} edits"),
    ],
)
def test_what_is_refused(edits: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match="headers") as refused:
        parse_edits(edits)
    assert str(refused.value).startswith(sentence)
    assert str(refused.value).isprintable()


NAMES = st.sampled_from(["X-One", "x-one", "Two", "Subject", "From", "absent"])
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40)
FIELDS = st.dictionaries(NAMES.filter(lambda name: name != "From"), VALUES | st.lists(VALUES, min_size=1, max_size=3), max_size=3)
EDITS = st.fixed_dictionaries(
    {"remove": st.lists(NAMES, max_size=2), "prepend": FIELDS, "append": FIELDS, "replace": FIELDS, "update": FIELDS}
).filter(lambda edits: all(len({name.lower() for name in edits[key]}) == len(edits[key]) for key in ("replace", "update")))
HEADER = st.lists(
    st.tuples(st.sampled_from(["X-One", "TWO", "Subject", "Other", "from"]), st.binary(max_size=20), st.booleans()), max_size=6
)


@given(HEADER, st.binary(max_size=60), EDITS)
@settings(max_examples=300, deadline=None)
def test_an_independent_reader_sees_the_edits(header: list[tuple[str, bytes, bool]], body: bytes, edits: dict[str, Any]) -> None:
    lines = [
        name.encode() + b": v" + value.replace(b"\n", b"").replace(b"\r", b"") + (b"\r\n\tmore\r\n" if folded else b"\r\n")
        for name, value, folded in header
    ]
    content = b"".join(lines) + b"\r\n" + body
    parsed = parse_edits(edits)
    edited = apply_edits(content, parsed or HeaderEdits())
    assert edited.endswith(b"\r\n" + body)
    named = {name.lower() for name in edits["remove"]} | {name.lower() for key in ("replace", "update") for name in edits[key]}
    untouched = [line for line, (name, _, _) in zip(lines, header, strict=True) if name.lower() not in named]
    place = 0
    for line in untouched:
        place = edited.index(line, place) + len(line)
    names = [name.lower() for name, _ in parse_header_section(edited)]
    assert [name.lower() for name in message_from_bytes(edited).keys()] == names  # noqa: SIM118 - a header may repeat
    for name, values in edits["replace"].items():
        wanted = next((given for other, given in edits["update"].items() if other.lower() == name.lower()), values)
        added = sum(
            len(given) if isinstance(given, list) else 1
            for key in ("prepend", "append")
            for other, given in edits[key].items()
            if other.lower() == name.lower()
        )
        assert names.count(name.lower()) == (len(wanted) if isinstance(wanted, list) else 1) + added
