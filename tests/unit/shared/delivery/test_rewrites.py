"""What a rule changes in the mail that it takes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.delivery.rewrites import apply_rewrite, combine_edits, find_changes, parse_rewrite
from shared.mail.edits import apply_edits, parse_edits
from shared.mail.headers import parse_header_section
from shared.wire.instructions import parse_instructions
from shared.wire.message import Message

BIG = 2**64 - 1
MAIL = Message({"id": "1", "seen": "2026-03-01 12:00:00", "recipient": "a@b.example", "envelope": "", "mime": "x", "mine": BIG})


def rewritten(rewrite: dict[str, Any], **own: Any) -> dict[str, Any]:
    """What is different in the mail afterwards; None: removed."""
    before = MAIL.with_properties(own)
    after = apply_rewrite(before, parse_rewrite(rewrite))
    parse_instructions(after)
    changed = {name for name in {*before.document, *after.document} if before.document.get(name) != after.document.get(name)}
    return {name: after.document.get(name) for name in changed}


RELAY = {"hostname": "relay.example", "port": 587, "username": "me", "password": "hunter2"}
TIME = {"time": "2026-03-02 00:00:00"}


@pytest.mark.parametrize(
    ("rewrite", "own", "expected"),
    [
        ({"smarthost": RELAY}, {}, {"smarthost": RELAY}),
        (
            {"smarthost": {"hostname": "relay.example"}},
            {"smarthost": {"hostname": "other.example", "password": "x"}},
            {"smarthost": {"hostname": "relay.example"}},
        ),
        ({"pool": "bulk"}, {"pool": "fast"}, {"pool": "bulk"}),
        ({"pool": "bulk"}, {"ips": ["192.0.2.1"]}, {"pool": "bulk", "ips": None}),
        ({"ips": ["192.0.2.9"]}, {"ips": ["192.0.2.1"], "pool": "fast"}, {"ips": ["192.0.2.9"]}),
        ({"pool": "bulk", "ips": ["192.0.2.9"]}, {}, {"pool": "bulk", "ips": ["192.0.2.9"]}),
        ({"tags": ["a", "b", "b"]}, {}, {"tags": ["a", "b"]}),
        ({"tags": ["a", "b"]}, {"tags": ["b", "c"]}, {"tags": ["b", "c", "a"]}),
        ({"tags": ["a"]}, {"tags": ["a"]}, {}),
        ({"tags": []}, {}, {}),
        ({"security": "required"}, {}, {"security": "required"}),
        ({"security": "verified"}, {"security": "opportunistic"}, {"security": "verified"}),
        ({"security": "required"}, {"security": "verified"}, {}),
        ({"security": "opportunistic"}, {"security": "required"}, {}),
        ({"nextattempt": TIME}, {}, {"nextattempt": TIME}),
        ({"nextattempt": TIME}, {"nextattempt": {"time": "2026-03-03 00:00:00"}}, {}),
        ({"nextattempt": TIME}, {"nextattempt": {"time": "2026-03-01 13:00:00", "x": 1}}, {"nextattempt": TIME | {"x": 1}}),
        ({"nextattempt": TIME}, {"delayed": "2026-03-03 00:00:00"}, {}),
        ({"nextattempt": TIME}, {"delayed": "2026-03-01 13:00:00"}, {"nextattempt": TIME, "delayed": None}),
        ({"nextattempt": {"time": "2020-01-01 00:00:00"}}, {}, {}),
        ({"nextattempt": 90}, {}, {"nextattempt": {"time": "2026-03-01 12:01:30"}}),
        ({"nextattempt": 90}, {"seen": "9999-12-31 23:59:59"}, {}),
        ({"headers": {"remove": "X-A"}}, {}, {"headers": {"remove": ["x-a"]}}),
        ({"headers": {}}, {}, {}),
        ({"pool": None, "tags": None}, {}, {}),
        ({}, {"pool": "x"}, {}),
    ],
    ids=str,
)
def test_what_a_rewrite_does(rewrite: dict[str, Any], own: dict[str, Any], expected: dict[str, Any]) -> None:
    assert rewritten(rewrite, **own) == expected


def test_nothing_else_is_touched_and_nothing_is_written_for_nothing() -> None:
    before = MAIL.with_properties({"tags": ["a"], "pool": "bulk"})
    same = apply_rewrite(before, parse_rewrite({"tags": ["a"], "pool": "bulk"}))
    assert same is before
    after = apply_rewrite(before, parse_rewrite({"tags": ["b"]}))
    assert after.document == {**before.document, "tags": ["a", "b"]}
    assert after.document["mine"] == BIG
    assert before.document["tags"] == ["a"]


@pytest.mark.parametrize(
    "own",
    [{"security": "none"}, {"tags": 7}, {"headers": 7}, {"nextattempt": 7}, {"smarthost": 7}, {"recipient": "x"}],
    ids=str,
)
def test_a_mail_that_says_something_impossible_stays_as_it_came(own: dict[str, Any]) -> None:
    """Its sender refuses it and names the property: a rewrite could hide it."""
    before = MAIL.with_properties(own)
    rewrite = {"security": "required", "tags": ["a"], "headers": {"remove": "x"}, "nextattempt": 5, "smarthost": RELAY}
    assert apply_rewrite(before, parse_rewrite(rewrite)) is before


def test_what_people_are_told_has_no_password() -> None:
    before = MAIL.with_properties({"ips": ["192.0.2.1"]})
    after = apply_rewrite(before, parse_rewrite({"smarthost": RELAY, "pool": "bulk"}))
    assert find_changes(before, after) == {"smarthost": RELAY | {"password": "***"}, "pool": "bulk", "ips": None}


@pytest.mark.parametrize(
    ("rewrite", "reason"),
    [
        ([], "configuration.rewrite: "),
        ({"colour": 1}, "configuration.rewrite.colour: unknown; expected one of smarthost, pool"),
        ({"strategy": "seal"}, "configuration.rewrite.strategy: unknown"),
        ({"smarthost": "relay.example"}, "configuration.rewrite.smarthost: expected an object with a hostname"),
        ({"smarthost": {"hostname": "relay.example", "port": "25"}}, "configuration.rewrite.smarthost.port: '25'"),
        ({"smarthost": {"hostname": "relay.example", "host": 1}}, "configuration.rewrite.smarthost.host: unknown"),
        ({"smarthost": {"hostname": "relay example"}}, "configuration.rewrite.smarthost.hostname: 'relay example'"),
        ({"smarthost": {"hostname": "[relay]"}}, "configuration.rewrite.smarthost.hostname: '[relay]'"),
        ({"pool": 7}, "configuration.rewrite.pool: '7'"),
        ({"pool": ""}, "configuration.rewrite.pool: ''"),
        ({"ips": "192.0.2.1"}, "configuration.rewrite.ips: '192.0.2.1'"),
        ({"ips": ["192.0.2.256"]}, "configuration.rewrite.ips: '192.0.2.256'"),
        ({"ips": []}, "configuration.rewrite.ips: expected one or more"),
        ({"tags": "x"}, "configuration.rewrite.tags: 'x'"),
        ({"tags": [7]}, "configuration.rewrite.tags: "),
        ({"security": "tls"}, "configuration.rewrite.security: 'tls': expected one of optional"),
        ({"headers": {"delete": "x"}}, "configuration.rewrite.headers.delete: expected one of"),
        ({"headers": {"append": {"X-A": "a\r\nX-B: b"}}}, "configuration.rewrite.headers.append.X-A: "),
        ({"nextattempt": "soon"}, "configuration.rewrite.nextattempt: 'soon': expected an object"),
        ({"nextattempt": {"time": "soon"}}, "configuration.rewrite.nextattempt.time: 'soon': expected UTC time"),
        ({"nextattempt": {"seconds": 5}}, "configuration.rewrite.nextattempt: expected {"),
        ({"nextattempt": 0}, "configuration.rewrite.nextattempt: 0: expected seconds from 1"),
        ({"nextattempt": 10**9}, "configuration.rewrite.nextattempt: 1000000000: expected seconds"),
        ({"nextattempt": True}, "configuration.rewrite.nextattempt: 'True': "),
        ({"nextattempt": 1.5}, "configuration.rewrite.nextattempt: '1.5': "),
    ],
    ids=str,
)
def test_a_bad_rewrite_names_the_property(rewrite: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}"):
        parse_rewrite(rewrite)


@pytest.mark.parametrize("hostname", ["relay", "relay.example", "bücher.example", "192.0.2.1", "[192.0.2.1]", "2001:db8::1"])
def test_smarthosts_that_can_be(hostname: str) -> None:
    assert parse_rewrite({"smarthost": {"hostname": hostname}})["smarthost"]["hostname"] == hostname


def test_a_password_stays_out_of_the_sentence() -> None:
    for smarthost in ({"hostname": "relay.example", "password": 31337}, {"hostname": "", "password": "31337"}):
        with pytest.raises(ValueError, match="smarthost") as caught:
            parse_rewrite({"smarthost": smarthost})
        assert "31337" not in str(caught.value)


NAMES = st.sampled_from(["X-A", "x-a", "X-B", "X-C"])
VALUES = st.sampled_from(["1", "2", ["3", "4"]])
ADDED = st.dictionaries(NAMES, VALUES, max_size=3)
SET = st.dictionaries(st.sampled_from(["X-A", "x-b", "X-C"]), VALUES, max_size=2)
EDITS = st.fixed_dictionaries(
    {},
    optional={
        "remove": st.lists(NAMES, max_size=2),
        "replace": SET,
        "update": SET,
        "prepend": ADDED,
        "append": ADDED,
        "add": ADDED,
    },
)


@given(EDITS, EDITS, st.lists(st.sampled_from(["X-A: 0", "X-B: 0", "x-b: 9"]), max_size=4))
def test_combined_edits_do_what_one_after_the_other_would(first: Any, second: Any, fields: list[str]) -> None:
    """But for where a field that both name ends up."""
    content = "".join(f"{field}\r\n" for field in ["Subject: x", *fields]).encode() + b"\r\nbody\r\n"
    once = _edit(content, combine_edits(first, second))
    twice = _edit(_edit(content, first), second)
    assert _fields(once) == _fields(twice)
    assert once.endswith(b"\r\n\r\nbody\r\n")


def _edit(content: bytes, edits: Any) -> bytes:
    parsed = parse_edits(edits)
    return content if parsed is None else apply_edits(content, parsed)


def _fields(content: bytes) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in parse_header_section(content))


def test_what_the_mail_itself_adds_stands_inside_of_what_the_rule_adds() -> None:
    combined = combine_edits(
        {"prepend": {"X": "mine"}, "add": {"Y": "mine"}}, {"prepend": {"X": "rule"}, "append": {"Y": "rule"}}
    )
    assert combined == {"prepend": {"X": ["rule", "mine"]}, "append": {"Y": ["mine", "rule"]}}
