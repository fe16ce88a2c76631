"""One attempt as it stands in ``results``: the names and values of messages.md 2."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shared.wire.result import MAX_DESCRIPTION, Attempt, Result, State, clean_text

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def test_states_in_order_and_results() -> None:
    assert " ".join(State) == (
        "process suppression storage responsive personalize rewrite dns bind connect intro ehlo helo starttls authplain authlogin "
        "authusername authpassword authcram authresponse mailfrom rcptto data message"
    )
    assert " ".join(Result) == "accepted timeout lost invalid error"


def test_what_is_unknown_is_left_out() -> None:
    assert Attempt(State.CONNECT, Result.TIMEOUT, 2, NOW).to_document() == {
        "state": "connect",
        "result": "timeout",
        "attempt": 2,
        "time": "2026-03-01 12:00:00",
        "strategy": "smtp",
    }


def test_everything() -> None:
    attempt = Attempt(
        State.MESSAGE, Result.ACCEPTED, 1, NOW, 250, "2.0.0", "2.0.0 Ok", "mx.example", "192.0.2.1", "198.51.100.1", 3,
        {"connection": 100, "data": 50}, "PLAIN", False, {"name": "X"}, {"verified": False}, "seal", True, "other",
    )  # fmt: skip
    assert attempt.to_document() == {
        "state": "message", "result": "accepted", "attempt": 1, "time": "2026-03-01 12:00:00", "mta": "mx.example", "from": "192.0.2.1",
        "to": "198.51.100.1", "messages": 3, "sent": {"connection": 100, "data": 50}, "authentication": "PLAIN", "code": 250,
        "status": "2.0.0", "description": "2.0.0 Ok", "dsn": False, "cipher": {"name": "X"}, "certificate": {"verified": False},
        "strategy": "seal", "possible-duplicate": True, "class": "other",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("5.1.1 No such user", "5.1.1 No such user"),
        ("first\nsecond\r\nthird\tx", "first second  third x"),
        ("nul\0bell\x07esc\x1b[31m", "nulbellesc[31m"),
        ("Größe 漢字 😀", "Größe 漢字 😀"),
        ("lone \ud800 surrogate", "lone  surrogate"),
        ("no\u00a0break", "no break"),
        ("x" * 2000, "x" * MAX_DESCRIPTION),
        ("\0" * 10 + "é" * 2000, "é" * MAX_DESCRIPTION),
    ],
)
def test_clean_text(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned
    clean_text(text).encode()
