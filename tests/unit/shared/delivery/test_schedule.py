"""When is the next attempt, and when is it too late? The whole list of a mail's life."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.delivery.schedule import JITTER, Schedule, decide_schedule
from shared.delivery.settings import RetrySettings
from shared.delivery.verdict import Failed, Retry, decide
from shared.wire.instructions import parse_instructions
from shared.wire.message import Message
from shared.wire.result import Attempt, Result, State

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DEFAULTS = RetrySettings()


def schedule_of(settings: RetrySettings = DEFAULTS, **properties: Any) -> Schedule:
    message = Message({"id": "m1", "recipient": "a@b.example", "seen": "2026-03-01 12:00:00"} | properties)
    return decide_schedule(message, parse_instructions(message), settings)


def live(schedule: Schedule, ident: str = "m1") -> tuple[list[timedelta], Failed]:
    """When each attempt is made if all are refused for now, and how it ends."""
    now, times = START, []
    for number in range(1, 1000):
        times.append(now - START)
        refused = Attempt(State.RCPTTO, Result.ERROR, number, now, 451)
        verdict = decide(refused, ident=ident, schedule=schedule, now=now)
        if isinstance(verdict, Failed):
            return times, verdict
        assert isinstance(verdict, Retry)
        assert verdict.due == now + verdict.after
        now = verdict.due
    raise AssertionError("lives for ever")


def minutes(*values: float) -> list[timedelta]:
    return [timedelta(minutes=value) for value in values]


def test_the_whole_life_with_the_defaults() -> None:
    """10, 10, 30, 30, 60, 60 minutes, then every two hours until the day is over."""
    plain = Schedule(START + timedelta(days=1), 0, DEFAULTS.retry_interval, jitter=0)
    times, end = live(plain)
    assert times == minutes(0, 10, 20, 50, 80, 140, 200, 320, 440, 560, 680, 800, 920, 1040, 1160, 1280, 1400)
    assert end == Failed(is_refusal=False)


@given(st.uuids())
def test_with_jitter_every_wait_is_within_ten_per_cent(ident: Any) -> None:
    schedule = schedule_of()
    times, end = live(schedule, str(ident))
    waits = [later - earlier for earlier, later in pairwise(times)]
    nominal = minutes(10, 10, 30, 30, 60, 60) + minutes(120) * 30
    assert all(abs(wait - expected) <= expected * JITTER for wait, expected in zip(waits, nominal, strict=False))
    assert all(time < timedelta(days=1) for time in times)
    assert 16 <= len(times) <= 18
    assert end == Failed(is_refusal=False)


def test_jitter_spreads_and_is_the_same_each_time() -> None:
    schedule = schedule_of()
    waits = [schedule.wait_after(1, f"id-{number}") for number in range(1000)]
    assert waits == [schedule.wait_after(1, f"id-{number}") for number in range(1000)]
    assert timedelta(seconds=540) <= min(waits) < timedelta(seconds=550)
    assert timedelta(seconds=650) < max(waits) <= timedelta(seconds=660)
    assert abs(sum(waits, timedelta()) / 1000 - timedelta(seconds=600)) < timedelta(seconds=10)
    assert schedule.wait_after(1, "id-1") != schedule.wait_after(2, "id-1")


def test_a_list_of_its_own_is_kept_exactly() -> None:
    times, _ = live(schedule_of(retries=[60, 120, 36_000]))
    assert times == minutes(0, 1, 3, 603, 1203)


def test_an_empty_list_of_its_own_is_the_setting() -> None:
    assert schedule_of(retries=[]) == schedule_of()


@pytest.mark.parametrize(("most", "attempts"), [(1, 1), (3, 3), (0, 5)])
def test_attempts_are_counted_with_the_first(most: int, attempts: int) -> None:
    times, end = live(schedule_of(maxattempts=most, retries=[18_000]))
    assert len(times) == attempts
    assert end == Failed(is_refusal=False)


def test_the_message_wins_over_the_settings() -> None:
    settings = RetrySettings(max_attempts=2, max_delivertime=timedelta(hours=1), retry_interval=(timedelta(seconds=60),))
    assert schedule_of(settings).most_attempts == 2
    assert schedule_of(settings, maxattempts=0).most_attempts == 0
    assert schedule_of(settings).deadline == START + timedelta(hours=1)
    assert schedule_of(settings, maxdelivertime="2026-03-05 00:00:00").deadline == datetime(2026, 3, 5, tzinfo=UTC)
    assert schedule_of(settings).intervals == (timedelta(seconds=60),)


def test_the_day_begins_with_the_publishers_own_nextattempt() -> None:
    later: dict[str, Any] = {"nextattempt": {"time": "2026-03-03 12:00:00"}}
    assert schedule_of(**later).deadline == START + timedelta(days=3)
    assert schedule_of(nextattempt={"time": "2026-02-01 00:00:00"}).deadline == START + timedelta(days=1)


def test_a_nextattempt_that_we_wrote_does_not_prolong_the_day() -> None:
    ours: dict[str, Any] = {"nextattempt": {"time": "2026-03-02 11:00:00"}, "results": [{"attempt": 1}]}
    assert schedule_of(**ours).deadline == START + timedelta(days=1)


@pytest.mark.parametrize("late", ["9999-12-31 23:59:59", "9999-12-31 00:00:01", "9998-12-31 23:59:59"])
def test_the_end_of_the_calendar(late: str) -> None:
    schedule = schedule_of(nextattempt={"time": late})
    assert schedule.deadline > datetime(9999, 1, 1, tzinfo=UTC) - timedelta(days=1)
    assert not schedule.is_over(1, START)


def test_no_attempt_begins_at_the_deadline() -> None:
    schedule = Schedule(START, 2, (timedelta(1),), 0)
    second = timedelta(seconds=1)
    assert schedule.is_over(1, START)
    assert not schedule.is_over(1, START - second)
    assert not schedule.is_over(2, START - second)
    assert schedule.is_over(3, START - second)
