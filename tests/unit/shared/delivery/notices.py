"""Outcomes with every verdict, and what the sender is told of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from shared.delivery.notify import Notice, decide_notice, render_notice
from shared.delivery.outcome import Outcome
from shared.delivery.settings import RetrySettings
from shared.delivery.verdict import Failed, Retry, Sent, Verdict
from shared.wire.message import Message
from shared.wire.publication import Publication, Step
from shared.wire.result import Attempt, Result, State
from shared.wire.times import render_time
from tests.unit.shared.delivery.messages import KEYS, NOW

CONTENT = b"From: r@a.example\r\nSubject: offer\r\nMessage-ID: <1@a.example>\r\n\r\nhello\r\n"
SENT, REFUSED, EXPIRED, RETRY = Sent(), Failed(is_refusal=True), Failed(is_refusal=False), Retry(timedelta(minutes=10), NOW)
SETTINGS = RetrySettings()
ALL = "SUCCESS,FAILURE,DELAY"


def outcome_of(verdict: Verdict, *, dsn: bool | None = None, at: datetime = NOW, **more: Any) -> Outcome:
    """An outcome with this verdict."""
    match verdict:
        case Sent():
            attempt = Attempt(State.MESSAGE, Result.ACCEPTED, 1, at, 250, "2.0.0", "2.0.0 Ok", mta="mx.b.example", dsn=dsn)
        case Failed(True):
            attempt = Attempt(State.RCPTTO, Result.ERROR, 1, at, 550, "5.1.1", "5.1.1 No such user", mta="mx.b.example")
        case Failed():
            attempt = Attempt(State.PROCESS, Result.TIMEOUT, 1, at, 554, "5.4.7", "Delivery time expired")
        case Retry():
            attempt = Attempt(State.RCPTTO, Result.ERROR, 1, at, 451, "4.7.1", "4.7.1 Later", mta="mx.b.example")
    return Outcome(verdict, replace(attempt, **more), Step())


def decide(message: Message, outcome: Outcome, **more: Any) -> Notice | None:
    """The decision with the settings of these tests."""
    given: dict[str, Any] = {"settings": SETTINGS, "keys": KEYS}
    return decide_notice(message, outcome, **(given | more))


def tried(*minutes: int) -> list[dict[str, Any]]:
    """Results of attempts so many minutes before NOW."""
    return [{"attempt": n, "time": render_time(NOW - timedelta(minutes=one))} for n, one in enumerate(minutes, 1)]


def render(
    message: Message, outcome: Outcome, notice: Notice | None = None, content: bytes | None = CONTENT, **more: Any
) -> tuple[Publication, ...]:
    """What is published."""
    notice = notice or decide(message, outcome)
    assert notice is not None
    given: dict[str, Any] = {"hostname": "me.example", "keys": KEYS}
    return render_notice(message, outcome.attempt, notice, content, **(given | more))
