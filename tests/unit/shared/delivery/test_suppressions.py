"""Which recipients get no mail."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.delivery.suppressions import Held, find_suppression, fold_name, hold, parents, parse_suppression
from shared.mail.address import parse_mailbox

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Bob@Example.ORG", "bob@example.org"),
        ('"bob"@example.org', "bob@example.org"),
        ('"b\\ob"@example.org', "bob@example.org"),
        ('"b b"@example.org', '"b b"@example.org'),
        ('"B@B"@example.org', '"b@b"@example.org'),
        ("Größe@Bücher.example", "größe@xn--bcher-kva.example"),
        ("BU\u0308RO@a.example", "büro@a.example"),
        ("example.org", "example.org"),
        ("@Example.org", "example.org"),
        ("*@example.org", "example.org"),
        ("*.Bücher.example", "*.xn--bcher-kva.example"),
        ("bob@[192.0.2.1]", "bob@[192.0.2.1]"),
        ("@[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]"),
        ("a/b%c@example.org", "a/b%c@example.org"),
    ],
)
def test_a_name_is_written_in_one_way(name: str, folded: str) -> None:
    assert fold_name(name) == folded
    assert fold_name(folded) == folded


@pytest.mark.parametrize(
    "name",
    [
        "",
        "@",
        "*",
        "*@*",
        "*.",
        "bob@",
        "b b@example.org",
        "*x.example.org",
        "a.*.example",
        "bob@*.example.org",
        "a\x00b",
        "x" * 300,
    ],
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name: .*expected an address, a domain, or"):
        fold_name(name)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": None}, "name"),
        ({"name": 7}, "name"),
        ({"reason": 7}, "reason"),
        ({"reason": ["x"]}, "reason"),
        ({"reason": "a\nb"}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"expires": "tomorrow"}, "expires"),
        ({"expires": "2026-13-01 00:00:00"}, "expires"),
        ({"expires": 7}, "expires"),
        ({"expires": {}}, "expires"),
    ],
)
def test_an_entry_that_is_wrong_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        parse_suppression({"name": "bob@example.org"} | change)


def test_an_entry_is_kept_as_it_was_given() -> None:
    given = {"name": "bob@example.org", "reason": "bounced", "expires": "2026-12-31 00:00:00"}
    entry = parse_suppression(given)
    assert {"name": entry.name, **entry.document} == given
    assert parse_suppression({"name": "bob@example.org", "reason": ""}).document == {}


def test_entries_with_the_same_words_share_them() -> None:
    assert hold("bounced", None) is hold("bounced", None)


def find(recipient: str, *names: str, **held: Any) -> str | None:
    found = find_suppression(parse_mailbox(recipient), {name: Held(**held) for name in names}, NOW)
    return found[0] if found else None


@pytest.mark.parametrize(
    ("recipient", "name", "is_stopped"),
    [
        ("BOB@example.ORG", "bob@example.org", True),
        ('"bob"@example.org', "bob@example.org", True),
        ("bob@bücher.example", "bob@xn--bcher-kva.example", True),
        ("bob@BÜCHER.example", "xn--bcher-kva.example", True),
        ("bob+tag@example.org", "bob@example.org", False),
        ("ann@example.org", "bob@example.org", False),
        ("ann@example.org", "example.org", True),
        ("ann@sub.example.org", "example.org", False),
        ("ann@sub.example.org", "*.example.org", True),
        ("ann@a.sub.example.org", "*.example.org", True),
        ("ann@example.org", "*.example.org", False),
        ("ann@notexample.org", "*.example.org", False),
        ("ann@example.org", "*.org", True),
        ("ann@[192.0.2.1]", "[192.0.2.1]", True),
        ("ann@[192.0.2.1]", "*.1]", False),
    ],
)
def test_who_is_stopped(recipient: str, name: str, is_stopped: bool) -> None:
    assert (find(recipient, name) is not None) is is_stopped


def test_an_entry_that_is_over_leaves_the_others_in_force() -> None:
    past = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
    assert find("bob@example.org", "bob@example.org", expires=past) is None
    entries = {"bob@example.org": Held(expires=past), "example.org": Held("all")}
    assert find_suppression(parse_mailbox("bob@example.org"), entries, NOW) == ("example.org", Held("all"))


def test_the_domains_above() -> None:
    assert list(parents("a.b.example")) == ["*.b.example", "*.example"]
    assert list(parents("localhost")) == []
