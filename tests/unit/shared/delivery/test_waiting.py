"""Mail that is not due: which wait queue, and by which key it comes home."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from shared.amqp.topology.default import read_default_topology
from shared.amqp.topology.objects import Queue
from shared.delivery.waiting import WAIT_QUEUES, choose_wait_queue, render_wait
from shared.wire.message import Message

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("left", "name"),
    [
        (-100, "wait.5s"), (0, "wait.5s"), (4.9, "wait.5s"), (5, "wait.5s"), (29.9, "wait.5s"), (30, "wait.30s"), (59, "wait.30s"),
        (60, "wait.1m"), (299, "wait.1m"), (300, "wait.5m"), (600, "wait.10m"), (1799, "wait.10m"), (1800, "wait.30m"), (3600, "wait.1h"),
        (7199, "wait.1h"), (7200, "wait.2h"), (10**8, "wait.2h"),
    ],
)  # fmt: skip
def test_the_longest_that_is_not_too_long(left: float, name: str) -> None:
    assert choose_wait_queue(timedelta(seconds=left)) == name


def test_the_table_is_what_the_topology_declares() -> None:
    declared = {
        item.name: timedelta(milliseconds=item.arguments["x-message-ttl"])
        for item in read_default_topology().objects
        if isinstance(item, Queue) and item.name.startswith("wait.")
    }
    assert {name: duration for duration, name in WAIT_QUEUES} == declared
    assert [duration for duration, _ in WAIT_QUEUES] == sorted(declared.values(), reverse=True)


@pytest.mark.parametrize("left", [1, 5, 61, 4_000, 90_061, 10**6])
def test_waiting_ends_within_five_seconds_of_the_time(left: int) -> None:
    durations = {name: duration for duration, name in WAIT_QUEUES}
    now, due = NOW, NOW + timedelta(seconds=left)
    rounds = 0
    while now < due:
        now += durations[choose_wait_queue(due - now)]
        rounds += 1
    assert now - due < timedelta(seconds=5)
    assert rounds < 200


def test_the_publication() -> None:
    message = Message({"id": "1", "priority": 7, "mime": "x", "x-unknown": [1]})
    waiting = render_wait(message, home="seal", due=NOW + timedelta(hours=1), now=NOW)
    assert (waiting.exchange, waiting.key, waiting.priority) == ("wait.1h", "seal", 7)
    assert (waiting.headers, waiting.record, waiting.encoding, waiting.is_optional) == ({}, False, "", False)
    assert orjson.loads(waiting.body) == message.document
    assert render_wait(message, home="seal", due=NOW, now=NOW, encoding="gzip").body[:2] == b"\x1f\x8b"
