"""Suppressions, pauses and forced errors: what keeps a mail from being sent, and what is told of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.delivery.conditions import Index
from shared.delivery.outcome import Keys, conclude
from shared.delivery.patterns_file import load_patterns
from shared.delivery.schedule import decide_schedule
from shared.delivery.settings import RetrySettings
from shared.delivery.stops import (
    NO_STOPS,
    Forced,
    Paused,
    Stops,
    Suppressed,
    find_stop,
    parse_error,
    parse_pause,
)
from shared.delivery.suppressions import Held
from shared.delivery.verdict import Failed, Retry
from shared.wire.instructions import parse_instructions
from shared.wire.message import Message

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
MAIL: dict[str, Any] = {"id": "m1", "recipient": "bob@example.org", "tags": ["news"], "seen": "2026-03-01 12:00:00", "mime": "x"}


def stops(
    *, suppressed: str = "", pauses: list[dict[str, Any]] | None = None, errors: list[dict[str, Any]] | None = None
) -> Stops:
    held = {suppressed: Held("unsubscribed")} if suppressed else {}
    return Stops(held, Index([parse_pause(one) for one in pauses or []]), Index([parse_error(one) for one in errors or []]))


def find(given: Stops, **properties: Any) -> Suppressed | Paused | Forced | None:
    message = Message(MAIL | properties)
    return find_stop(message, parse_instructions(message), given, NOW)


def test_nothing_stops_a_mail() -> None:
    assert find(NO_STOPS) is None
    others = stops(suppressed="ann@example.org", pauses=[{"tag": "x"}], errors=[{"tag": "x", "code": 550}])
    assert find(others) is None


def test_a_suppression_comes_first_then_a_pause_then_an_error() -> None:
    pause, error = {"destination": "*"}, {"destination": "*", "code": 550}
    assert find(stops(suppressed="example.org", pauses=[pause], errors=[error])) == Suppressed("example.org", "unsubscribed")
    assert find(stops(pauses=[pause], errors=[error])) == Paused("*")
    assert find(stops(errors=[error])) == Forced("*", 550, "5.7.1", "Stopped by a forced error")


def test_force_overrules_nothing() -> None:
    assert isinstance(find(stops(suppressed="bob@example.org"), force=True), Suppressed)


def test_of_several_pauses_the_one_that_ends_last_counts() -> None:
    until = {"name": "b", "destination": "example.org", "expires": "2026-03-01 14:00:00"}
    sooner = {"name": "a", "tag": "news", "expires": "2026-03-01 13:00:00"}
    assert find(stops(pauses=[sooner, until])) == Paused("b", datetime(2026, 3, 1, 14, tzinfo=UTC))
    assert find(stops(pauses=[until, {"name": "c", "destination": "*"}])) == Paused("c")


def test_the_most_specific_error_counts() -> None:
    found = find(stops(errors=[{"destination": "*", "code": 550}, {"tag": "news", "code": 451, "status": "4.3.2"}]))
    assert found == Forced("tag=news", 451, "4.3.2", "Stopped by a forced error")


@pytest.mark.parametrize(
    ("lasted", "wait"),
    [(0, 5), (-60, 5), (8, 5), (30, 15), (120, 60), (600, 300), (1200, 600), (86400, 600)],
)
def test_a_long_pause_costs_little_and_a_short_one_seconds(lasted: int, wait: int) -> None:
    paused = Paused("x", since=NOW - timedelta(seconds=lasted))
    assert paused.look_again(NOW, NOW + timedelta(days=1)) == NOW + timedelta(seconds=wait)


def test_a_paused_mail_looks_again_at_its_end_and_at_its_deadline() -> None:
    hours, minute = NOW + timedelta(hours=3), NOW + timedelta(minutes=1)
    assert Paused("x", until=minute).look_again(NOW, hours) == minute
    assert Paused("x", until=hours).look_again(NOW, minute) == minute
    assert Paused("x").look_again(NOW, hours) == NOW + timedelta(minutes=10)


def ended(stop: Suppressed | Forced, **properties: Any) -> tuple[Any, dict[str, Any]]:
    """(verdict, the attempt as it is told) by the shipped patterns."""
    message = Message(MAIL | properties)
    instructions = parse_instructions(message)
    outcome = conclude(
        message,
        stop.to_attempt(message.attempt, NOW),
        instructions=instructions,
        schedule=decide_schedule(message, instructions, RetrySettings()),
        keys=Keys(),
        now=NOW,
        patterns=load_patterns(""),
    )
    return outcome.verdict, outcome.attempt.to_document()


def test_a_suppressed_mail_fails() -> None:
    verdict, told = ended(Suppressed("example.org", "unsubscribed"))
    assert verdict == Failed(is_refusal=True)
    assert (told["state"], told["result"], told["code"], told["status"]) == ("suppression", "error", 554, "5.7.1")
    assert told["description"] == "The recipient is on the suppression list: unsubscribed"
    assert ended(Suppressed("example.org"))[1]["description"] == "The recipient is on the suppression list"


@pytest.mark.parametrize("code", [500, 550, 554, 599])
def test_a_forced_5xx_fails_whatever_the_patterns_say(code: int) -> None:
    """The shipped patterns would have this text tried again."""
    verdict, told = ended(Forced("x", code, "5.7.1", "rate limit exceeded, try again later"))
    assert verdict == Failed(is_refusal=True)
    assert (told["state"], told["result"], told["code"], told["status"]) == ("process", "error", code, "5.7.1")


@pytest.mark.parametrize("code", [400, 421, 451, 499])
def test_a_forced_4xx_is_tried_again_and_counts(code: int) -> None:
    forced = Forced("x", code, "4.3.2", "mailbox does not exist")
    verdict, told = ended(forced)
    assert isinstance(verdict, Retry)
    assert (told["state"], told["code"], told["attempt"]) == ("process", code, 1)
    assert ended(forced, maxattempts=1)[0] == Failed(is_refusal=False)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"code": None}, "code"),
        ({"code": "550"}, "code"),
        ({"code": True}, "code"),
        ({"code": 250}, "code"),
        ({"code": 600}, "code"),
        ({"status": "4.7.1"}, "status"),
        ({"status": "5.7"}, "status"),
        ({"status": 5}, "status"),
        ({"description": "a\r\nb"}, "description"),
        ({"description": 7}, "description"),
        ({"expires": "never"}, "expires"),
        ({"destination": None}, "destination"),
    ],
)
def test_a_forced_error_that_is_wrong_is_refused_by_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        parse_error({"destination": "example.org", "code": 550} | change)


def test_they_are_kept_as_they_were_given() -> None:
    pause = {"name": "p", "destination": "*", "tag": "x", "pool": "y", "reason": "r", "expires": "2026-03-01 14:00:00"}
    error = {"name": "e", "tag": "x", "code": 451, "status": "4.3.2", "description": "d", "expires": "2026-03-01 14:00:00"}
    found_pause, found_error = parse_pause(pause), parse_error(error)
    assert {"name": found_pause.name, **found_pause.document} == pause
    assert {"name": found_error.name, **found_error.document} == error
    assert parse_pause(pause | {"updated_at": 1772366400}).since == NOW
