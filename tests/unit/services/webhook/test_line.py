"""Turns, rests and probes of one endpoint."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from services.webhook.line import Busy, Line

INTERVALS = [timedelta(seconds=5), timedelta(seconds=30)]


class Clock:
    """Moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def rest(failures: int) -> timedelta:
    return INTERVALS[min(failures, 2) - 1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def line(clock: Clock) -> Line:
    return Line(2, timeout=timedelta(seconds=30), clock=clock)


async def take(line: Line, most: int = 10) -> str:
    """``taken``, or why not and for how many seconds."""
    try:
        async with line.turn(most):
            return "taken"
    except Busy as busy:
        return f"{busy.reason} {busy.after.total_seconds():g}"


async def test_it_rests_after_a_failure_and_longer_after_the_next(line: Line, clock: Clock) -> None:
    assert await take(line) == "taken"
    line.fail(rest)
    assert await take(line) == "resting 5"
    clock.now += 4.9
    assert (await take(line)).startswith("resting 0.1")
    clock.now += 0.2
    assert await take(line) == "taken"
    line.fail(rest)
    assert await take(line) == "resting 30"
    line.succeed()
    assert await take(line) == "taken"
    assert line.failures == 0


async def test_those_that_were_under_way_together_count_once(line: Line, clock: Clock) -> None:
    assert [line.fail(rest), line.fail(rest)] == [timedelta(seconds=5)] * 2
    assert line.failures == 1


async def test_after_a_failure_one_alone_tries(line: Line, clock: Clock) -> None:
    line.fail(rest)
    clock.now += 6
    async with line.turn(10):
        assert await take(line) == "resting 30"
        line.succeed()
    assert await take(line) == "taken"


async def test_its_share_of_what_is_in_hand_is_bounded(line: Line) -> None:
    async with line.turn(2), line.turn(2):
        assert await take(line, most=2) == "busy 5"
    assert await take(line, most=2) == "taken"


async def test_one_that_waited_for_its_turn_sees_what_became_of_those_before_it(line: Line) -> None:
    async with line.turn(9), line.turn(9):
        waiting = asyncio.ensure_future(take(line))
        await asyncio.sleep(0)
        assert not waiting.done()
        line.fail(rest)
    assert await waiting == "resting 5"
