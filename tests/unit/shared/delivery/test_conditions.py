"""Which mail pauses and forced errors are about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.delivery.conditions import Conditions, Index, Subject, describe, parse_conditions
from shared.wire.instructions import parse_instructions
from shared.wire.message import Message

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Entry:
    name: str
    conditions: Conditions
    expires: datetime | None = None


def index(*documents: dict[str, Any]) -> Index[Entry]:
    return Index([Entry(*parse_conditions(document)) for document in documents])


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"destination": "Gmail.COM"}, "gmail.com"),
        ({"destination": "*"}, "*"),
        ({"destination": "*.Bücher.example"}, "*.xn--bcher-kva.example"),
        ({"destination": "gmail.*"}, "gmail.*"),
        ({"tag": "news"}, "tag=news"),
        ({"destination": "a.example", "tag": "news", "pool": "bulk"}, "a.example tag=news pool=bulk"),
        ({"name": "mine", "pool": "bulk"}, "mine"),
    ],
)
def test_a_name_is_made_from_the_conditions(document: dict[str, Any], name: str) -> None:
    assert parse_conditions(document)[0] == name


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, "destination"),
        ({"name": "gmail.com"}, "destination"),
        ({"destination": ""}, "destination"),
        ({"destination": "a b"}, "destination"),
        ({"destination": "bob@example.org"}, "destination"),
        ({"destination": "b@*"}, "destination"),
        ({"destination": ["gmail.com"]}, "destination"),
        ({"destination": "x" * 256}, "destination"),
        ({"tag": ""}, "tag"),
        ({"tag": 7}, "tag"),
        ({"pool": "a\x00"}, "pool"),
        ({"tag": "x", "name": ""}, "name"),
        ({"tag": "x", "name": ".."}, "name"),
        ({"tag": "x", "name": 7}, "name"),
    ],
)
def test_what_is_wrong_is_named(document: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        parse_conditions(document)


@pytest.mark.parametrize(
    ("document", "is_met"),
    [
        ({"destination": "*"}, True),
        ({"destination": "mx.example.org"}, True),
        ({"destination": "example.org"}, False),
        ({"destination": "*.example.org"}, True),
        ({"destination": "*.mx.example.org"}, False),
        ({"destination": "*.org"}, True),
        ({"destination": "mx.*.org"}, True),
        ({"destination": "*example*"}, True),
        ({"destination": "mail.*"}, False),
        ({"tag": "news"}, True),
        ({"tag": "vip"}, True),
        ({"tag": "News"}, False),
        ({"pool": "bulk"}, True),
        ({"pool": "other"}, False),
        ({"destination": "*", "tag": "other"}, False),
        ({"destination": "mx.example.org", "tag": "news", "pool": "bulk"}, True),
        ({"destination": "mx.example.org", "tag": "news", "pool": "other"}, False),
        ({"destination": "other.example", "tag": "news", "pool": "bulk"}, False),
    ],
)
def test_all_that_are_given_must_be_met(document: dict[str, Any], is_met: bool) -> None:
    found = index(document).find(Subject("mx.example.org", ("news", "vip", "news"), "bulk"), NOW)
    assert len(found) == is_met


def test_the_most_specific_comes_first() -> None:
    given = [
        {"destination": "*"}, {"destination": "*.org"}, {"destination": "*.example.org"}, {"destination": "a.example.org"},
        {"tag": "x"}, {"destination": "*.org", "tag": "x"}, {"destination": "a.example.org", "tag": "x"},
    ]  # fmt: skip
    found = index(*given).find(Subject("a.example.org", ("x",), None), NOW)
    assert [entry.name for entry in found] == [
        "a.example.org tag=x", "*.org tag=x", "a.example.org", "*.example.org", "*.org", "tag=x", "*",
    ]  # fmt: skip


def test_what_is_over_does_not_count() -> None:
    _, conditions = parse_conditions({"tag": "x"})
    entries = [Entry("over", conditions, NOW), Entry("in force", conditions, NOW + timedelta(seconds=1))]
    assert [entry.name for entry in Index(entries).find(Subject("a.example", ("x",), None), NOW)] == ["in force"]


def test_how_a_mail_is_seen() -> None:
    document: dict[str, Any] = {"recipient": "a@Bücher.example", "tags": ["x", "y"], "pool": "bulk"}
    message = Message(document)
    assert describe(message, parse_instructions(message)) == Subject("xn--bcher-kva.example", ("x", "y"), "bulk")
    message = Message(document | {"ips": ["192.0.2.1"], "tags": None})
    assert describe(message, parse_instructions(message)) == Subject("xn--bcher-kva.example", (), None)
