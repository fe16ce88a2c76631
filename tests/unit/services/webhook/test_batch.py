"""Batches: how they are made, kept and read again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.webhook.batch import BATCH, Batch, make_batches, parse_batch
from shared.trouble import BadMessage
from tests.support.record_frames import make_frame

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)
EVENTS = [{"id": f"e{number}", "type": "failed"} for number in range(5)]


def test_as_many_as_fit_in_their_order() -> None:
    assert [[event["id"] for event in batch.events] for batch in make_batches("a", EVENTS, now=NOW, most=2, octets=10_000)] == [
        ["e0", "e1"],
        ["e2", "e3"],
        ["e4"],
    ]
    assert [len(batch.events) for batch in make_batches("a", EVENTS, now=NOW, most=99, octets=60)] == [2, 2, 1]
    assert [len(batch.events) for batch in make_batches("a", EVENTS, now=NOW, most=99, octets=1)] == [1] * 5
    assert list(make_batches("a", [], now=NOW, most=2, octets=1)) == []


def test_the_same_events_to_the_same_endpoint_have_the_same_id_and_body() -> None:
    batch = Batch("a", EVENTS, NOW)
    waiting = replace(batch, bounces=3).render_wait("k", NOW + timedelta(minutes=7), NOW)
    again = parse_batch(make_frame(waiting.body, BATCH))
    assert (again.id, again.body, again.due, again.created) == (batch.id, batch.body, NOW + timedelta(minutes=7), NOW)
    assert again.bounces == 3
    assert Batch("b", EVENTS, NOW).id != batch.id
    assert Batch("a", EVENTS[1:], NOW).id != batch.id
    assert len({one.id for one in batch.divide()}) == 5


def test_it_waits_in_queues_of_its_own() -> None:
    batch = Batch("a", EVENTS, NOW, attempts=2)
    waiting = batch.render_wait("webhook.batches", NOW + timedelta(minutes=7), NOW)
    assert (waiting.exchange, waiting.key, waiting.headers) == ("webhook.wait.5m", "webhook.batches", {"event": BATCH})
    now = batch.render("webhook.batches")
    assert (now.exchange, now.key) == (None, "webhook.batches")


def test_the_schedule_is_that_of_the_setting_and_the_last_repeats() -> None:
    batch, intervals = Batch("a", EVENTS, NOW), [timedelta(seconds=5), timedelta(seconds=60)]
    waits = [batch.wait_after(attempt, intervals).total_seconds() for attempt in (1, 2, 3)]
    for wait, about in zip(waits, (5, 60, 60), strict=True):
        assert 0.9 * about <= wait <= 1.1 * about


def test_one_that_finds_no_turn_waits_twice_as_long_each_time() -> None:
    for bounces, most in ((0, 5), (1, 10), (2, 20), (6, 320), (9, 1800), (100_000, 1800)):
        wait = Batch("a", EVENTS, NOW, bounces=bounces).wait_after_bounce().total_seconds()
        assert most / 2 <= wait <= most
    # Those that were turned away together do not come back together.
    waits = {Batch("a", [{"id": number}], NOW, bounces=6).wait_after_bounce() for number in range(100)}
    assert len({wait.total_seconds() // 40 for wait in waits}) == 4


def test_it_is_over_after_its_age_and_not_before() -> None:
    day = timedelta(days=1)
    batch = Batch("a", EVENTS, NOW)
    assert not batch.is_over(NOW + day - timedelta(seconds=1), day)
    assert batch.is_over(NOW + day, day)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"endpoint": "a", "created": "2026-11-23 04:00:00", "attempts": 0, "events": []}',
        b'{"endpoint": "a", "created": "2026-11-23 04:00:00", "attempts": 0, "events": [7]}',
        b'{"endpoint": "a", "created": "yesterday", "attempts": 0, "events": [{"id": "e"}]}',
        b'{"endpoint": "a", "created": "2026-11-23 04:00:00", "attempts": 0, "bounces": -1, "events": [{"id": "e"}]}',
    ],
)
def test_what_is_none_is_parked(body: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_batch(make_frame(body, BATCH))


def test_a_result_that_claims_to_be_one_is_parked() -> None:
    body = Batch("a", EVENTS, NOW).render("k").body
    for event, is_ours in ((None, True), ("success", True), (BATCH, False)):
        with pytest.raises(BadMessage, match="not a batch"):
            parse_batch(make_frame(body, event, is_ours=is_ours))
