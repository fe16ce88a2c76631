"""The patterns that come with us, on replies as servers send them (``replies.tsv``)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from shared.delivery.patterns import BounceClass
from shared.delivery.patterns_file import SHIPPED, load_patterns, read_shipped
from shared.delivery.schedule import Schedule
from shared.delivery.verdict import Failed, Retry, decide
from shared.mail.reply import parse_reply
from shared.wire.result import Attempt, Result, State

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SCHEDULE = Schedule(NOW + timedelta(days=1), 0, (timedelta(minutes=10),), 0)
PATTERNS = load_patterns()
VERDICTS = {Retry: "retry", Failed: "failed"}


class Row(NamedTuple):
    """A line of the table."""

    state: str
    reply: str
    bounce_class: str
    verdict: str


def read_rows() -> list[Row]:
    lines = (Path(__file__).with_name("replies.tsv")).read_text().splitlines()
    return [Row(*line.split("\t")) for line in lines if line and not line.startswith("#")]


ROWS = read_rows()


def classify(attempt: Attempt, **more: Any) -> tuple[str, str]:
    """(class, verdict)"""
    match = PATTERNS.find(attempt, **more)
    assert match is not None
    return str(match.bounce_class), VERDICTS[type(decide(attempt, ident="m1", schedule=SCHEDULE, now=NOW, match=match))]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.state} {row.reply[:60]}")
def test_a_real_reply(row: Row) -> None:
    reply = parse_reply([line.encode() for line in row.reply.split("\\n")])
    attempt = Attempt(State(row.state), Result.ERROR, 1, NOW, reply.code, reply.enhanced_status, reply.text)
    assert classify(attempt) == (row.bounce_class, row.verdict)


def test_the_table_is_large_and_has_every_class() -> None:
    assert len(ROWS) >= 150
    assert len({row.reply for row in ROWS}) == len(ROWS)
    ours = {"dns", "connection", "timeout", "source", "suppressed", "expired"}
    assert {row.bounce_class for row in ROWS} | ours == {str(one) for one in BounceClass}


def test_there_are_patterns_enough() -> None:
    assert len(read_shipped()) >= 170


@pytest.mark.parametrize(
    ("state", "result", "status", "expected"),
    [
        (State.PROCESS, Result.TIMEOUT, None, "expired"),
        (State.PROCESS, Result.ERROR, None, "source"),
        (State.PROCESS, Result.INVALID, None, "bad-content"),
        (State.SUPPRESSION, Result.ERROR, None, "suppressed"),
        (State.STORAGE, Result.ERROR, None, "bad-content"),
        (State.STORAGE, Result.INVALID, None, "bad-content"),
        (State.STORAGE, Result.LOST, None, "connection"),
        (State.RESPONSIVE, Result.ERROR, None, "bad-content"),
        (State.PERSONALIZE, Result.ERROR, None, "bad-content"),
        (State.DNS, Result.ERROR, None, "bad-domain"),
        (State.DNS, Result.ERROR, "5.1.10", "bad-domain"),
        (State.DNS, Result.ERROR, "5.4.6", "routing"),
        (State.DNS, Result.TIMEOUT, None, "dns"),
        (State.BIND, Result.ERROR, None, "source"),
        (State.BIND, Result.ERROR, "5.3.5", "source"),
        (State.CONNECT, Result.ERROR, None, "connection"),
        (State.CONNECT, Result.ERROR, "4.4.6", "routing"),
        (State.CONNECT, Result.TIMEOUT, None, "timeout"),
        (State.STARTTLS, Result.INVALID, None, "tls"),
        (State.STARTTLS, Result.ERROR, None, "tls"),
        (State.RCPTTO, Result.TIMEOUT, None, "timeout"),
        (State.MESSAGE, Result.LOST, None, "connection"),
        (State.EHLO, Result.INVALID, None, "protocol"),
    ],
)
def test_where_no_peer_spoke(state: State, result: Result, status: str | None, expected: str) -> None:
    match = PATTERNS.find(Attempt(state, result, 1, NOW, status=status))
    assert match is not None
    assert match.bounce_class == expected


def every_word() -> Iterator[tuple[int, str, Attempt]]:
    """For every pattern about replies, and each text and status in it, a reply that has just that."""
    for number, entry in enumerate(tomllib.loads(SHIPPED.read_text())["pattern"], start=1):
        if not {"text", "status"} & set(entry) or "host" in entry or entry.get("state", "rcptto") in ("dns", "connect"):
            continue
        for text, status, code in product(_each(entry, "text", ""), _each(entry, "status", ""), _each(entry, "code", "")):
            number_of_code = str(code).replace("x", "0") or ("450" if status.startswith("4") else "550")
            full = status.replace("*.", f"{number_of_code[0]}.", 1).replace("*", "99")
            told = ".".join(part.partition("-")[0] for part in full.split("."))
            words = f"{told} {text.replace('*', 'abc') or 'nothing more'}".strip()
            yield number, entry["class"], Attempt(State.RCPTTO, Result.ERROR, 1, NOW, int(number_of_code), told or None, words)


def _each(entry: dict[str, Any], key: str, default: str) -> list[Any]:
    value = entry.get(key, default)
    return value if isinstance(value, list) else [value]


def test_no_word_is_hidden_by_a_pattern_of_another_class() -> None:
    hidden = [
        f"pattern {number} ({expected}): {attempt.description!r} is {found.bounce_class} by pattern {found.number}"
        for number, expected, attempt in every_word()
        if (found := PATTERNS.find(attempt)) is not None and found.bounce_class != expected
    ]
    assert hidden == []


def test_only_frequency_limits_of_one_provider_change_a_verdict() -> None:
    """A shipped pattern that makes a 5xx a retry, or a 4xx a failure, wants a reason of its own."""
    changed = [pattern for pattern in read_shipped() if pattern.match.fatal is not None or pattern.match.interval is not None]
    assert [(pattern.match.fatal, pattern.written["text"]) for pattern in changed] == [
        (False, "frequency limited or frequency limit"),
        (False, "mailbox unavailable or access denied"),
    ]


def test_one_provider_says_full_with_the_words_of_gone() -> None:
    reply = Attempt(State.RCPTTO, Result.ERROR, 1, NOW, 550, None, "Mailbox unavailable or access denied")
    assert classify(reply, host="mx3.qq.com") == ("rate-limit", "retry")
    assert classify(reply, host="mx.b.example") == ("bad-mailbox", "failed")


def test_greylisting_keeps_the_source_and_the_schedule() -> None:
    match = PATTERNS.find(Attempt(State.RCPTTO, Result.ERROR, 1, NOW, 450, "4.2.0", "4.2.0 <u@b.example>: Greylisted"))
    assert match is not None
    assert (match.greylisted, match.fatal, match.interval) == (True, None, None)
