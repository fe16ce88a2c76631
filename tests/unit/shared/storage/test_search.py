"""What may be asked of the records, and along which index it is found."""

from datetime import UTC, datetime

import pytest

from shared.storage.asked import BadParameter, Party, parse_moment, parse_party
from shared.storage.counters import parse_question
from shared.storage.search import choose_walk, parse_cursor, parse_search, render_cursor

NOW = datetime(2026, 11, 23, 4, 0, 0, tzinfo=UTC)
UNIX = 1_795_406_400


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23 04:00:00", UNIX),
        ("2026-11-23", UNIX - 4 * 3600),
        ("2026-11-23T04:00Z", UNIX),
        ("2026-11-23T05:00:00+01:00", UNIX),
        ("2h", UNIX - 7200),
        ("1h30m", UNIX - 5400),
        ("99999999h", 0),
    ],
)
def test_a_time_is_read(text: str, moment: int) -> None:
    assert parse_moment("since", text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "1795406400", "2026-13-01", "-2h", "2026-11-23 25:00:00", "9" * 400 + "h"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(BadParameter, match=r"since.*: expected a time"):
        parse_moment("since", text, NOW)


@pytest.mark.parametrize(
    ("text", "party"),
    [
        ("Bob@Example.org", Party(spellings=("bob@example.org",))),
        ("*@Example.org", Party(domain=("example.org",))),
        ("a*b@example.org", Party(spellings=("a*b@example.org",))),
        ("bob@bücher.example", Party(spellings=("bob@bücher.example", "bob@xn--bcher-kva.example"))),
        ("bob@XN--bcher-kva.example", Party(spellings=("bob@xn--bcher-kva.example", "bob@bücher.example"))),
        ("Postmaster", Party(spellings=("postmaster",))),
        ("bob@not a domain", Party(spellings=("bob@not a domain",))),
    ],
)
def test_an_address_is_read_in_every_spelling(text: str, party: Party) -> None:
    assert parse_party("recipient", text) == party


def test_the_null_sender_can_be_asked_for() -> None:
    assert parse_party("sender", "<>") == parse_party("sender", "") == Party(spellings=("",))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"recipient": "bob"}, "recipient"),
        ({"recipient": "@example.org"}, "recipient"),
        ({"recipient": "*@*.example.org"}, "recipient"),
        ({"recipient": "a\x00@example.org"}, "recipient"),
        ({"sender": "\ud800@example.org"}, "sender"),
        ({"sender": "x" * 2000 + "@example.org"}, "sender"),
        ({"status": "sent"}, "status"),
        ({"status": "routed"}, "status"),
        ({"class": "mailbox-full"}, "class"),
        ({"class": "quota", "status": "accepted"}, "class"),
        ({"destination": "*.example.org"}, "destination"),
        ({"destination": "example.net", "recipient": "*@example.org"}, "destination"),
        ({"since": "soon"}, "since"),
        ({"since": "1h", "until": "2h"}, "until"),
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"archived": "yes"}, "archived"),
        ({"cursor": "abc"}, "cursor"),
        ({"cursor": "ü"}, "cursor"),
        ({"recpient": "bob@example.org"}, "recpient"),
    ],
)
def test_a_bad_parameter_is_named(given: dict[str, str], field: str) -> None:
    with pytest.raises(BadParameter, match=r": expected ") as raised:
        parse_search(given, NOW)
    assert raised.value.field == field
    assert str(raised.value).startswith(field)


@pytest.mark.parametrize("place", [(0, ""), (UNIX, "9b2f6a0e-6c1d-4a86-9f57-0f3a5f0c7a11"), (UNIX, "an id with spaces, ünd so")])
def test_a_cursor_is_read_back(place: tuple[int, str]) -> None:
    assert parse_cursor(render_cursor(place)) == place
    with pytest.raises(BadParameter, match="cursor"):
        parse_cursor(render_cursor(place) + "A")


@pytest.mark.parametrize(
    ("given", "key", "where"),
    [
        ({}, "", []),
        ({"status": "delivered"}, "", []),
        ({"status": "failed"}, "", ["status = 'failed'"]),
        ({"recipient": "a@b", "sender": "c@d", "status": "failed"}, 'lower(recipient COLLATE "C")', []),
        ({"sender": "c@d"}, 'lower(sender COLLATE "C")', []),
        ({"sender": "c@d", "status": "failed"}, 'lower(sender COLLATE "C")', ["status = 'failed'"]),
        ({"sender": "c@d", "recipient": "*@b", "class": "quota"}, 'destination COLLATE "C"', []),
        ({"class": "quota"}, 'class COLLATE "C"', ["class IS NOT NULL"]),
        ({"sender": "*@d"}, "", []),
    ],
)
def test_the_index_is_chosen(given: dict[str, str], key: str, where: list[str]) -> None:
    walk = choose_walk(parse_search(given, NOW))
    assert (walk.key, walk.where) == (key, where)


@pytest.mark.parametrize(
    ("given", "level", "since", "until"),
    [
        ({}, "hour", UNIX - 86_400, UNIX + 3600),
        ({"since": "48h"}, "hour", UNIX - 172_800, UNIX + 3600),
        ({"since": "50h"}, "day", UNIX - 4 * 3600 - 172_800, UNIX + 20 * 3600),
        ({"since": "720h", "by": "hour"}, "total", UNIX - 720 * 3600, UNIX + 3600),
        ({"since": "720h", "destination": "example.org"}, "hour", UNIX - 720 * 3600, UNIX + 3600),
        ({"since": "2026-11-23 01:30:00", "until": "2026-11-23 02:00:00"}, "hour", UNIX - 3 * 3600, UNIX - 2 * 3600),
    ],
)
def test_a_question_reads_the_level_with_few_rows(given: dict[str, str], level: str, since: int, until: int) -> None:
    question = parse_question(given, NOW)
    assert (question.level, question.since, question.until) == (level, since, until)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"by": "domain"}, "by"),
        ({"by": ""}, "by"),
        ({"by": "destination,hour", "since": "26h"}, "by"),
        ({"since": "800h"}, "since"),
        ({"since": "9000h", "by": "class"}, "since"),
        ({"until": "25h"}, "until"),
        ({"status": "accepted"}, "status"),
        ({"limit": "many"}, "limit"),
        ({"recipient": "a@b"}, "recipient"),
    ],
)
def test_a_question_that_would_be_slow_or_makes_no_sense_is_refused(given: dict[str, str], field: str) -> None:
    with pytest.raises(BadParameter, match=r": expected ") as raised:
        parse_question(given, NOW)
    assert raised.value.field == field
