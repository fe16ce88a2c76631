"""Messages and outcomes for the tests of this folder."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from shared.delivery.outcome import Keys, Outcome, conclude
from shared.delivery.schedule import decide_schedule
from shared.delivery.settings import RetrySettings
from shared.wire.instructions import parse_instructions
from shared.wire.message import Message
from shared.wire.publication import Publication
from shared.wire.result import Attempt, Result, State

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
KEYS = Keys(reserved=frozenset({"outbox", "retries", "record"}))
OURS = {
    "id": "11111111-2222-3333-4444-555555555555",
    "transaction": "11111111-2222-3333-4444-555555555555",
    "recipients-total": 1,
    "channel": "smtp",
    "seen": "2026-03-01 11:59:00",
}


def make_message(**properties: Any) -> Message:
    """A mail of ours from r@a.example to to@b.example, payload inline."""
    common = {"recipient": "to@b.example", "envelope": "r@a.example", "mime": "Subject: x\r\n\r\nhello\r\n"}
    named = {name.replace("_", "-"): value for name, value in properties.items()}
    return Message({name: value for name, value in (OURS | common | named).items() if value is not ...})


def end(
    message: Message,
    state: State,
    result: Result,
    code: int | None = None,
    *,
    keys: Keys = KEYS,
    now: datetime = NOW,
    **more: Any,
) -> Outcome:
    """The outcome of ``message`` after an attempt that ended so."""
    instructions = parse_instructions(message)
    attempt = Attempt(state, result, message.attempt, now, code, None, None if code is None else f"the peer says {code}")
    schedule = decide_schedule(message, instructions, RetrySettings())
    return conclude(message, attempt, instructions=instructions, schedule=schedule, keys=keys, now=now, **more)


def accepted(message: Message, **more: Any) -> Outcome:
    """Sent."""
    return end(message, State.MESSAGE, Result.ACCEPTED, 250, **more)


def refused(message: Message, **more: Any) -> Outcome:
    """Refused for good."""
    return end(message, State.RCPTTO, Result.ERROR, 550, **more)


def deferred(message: Message, **more: Any) -> Outcome:
    """Refused for now."""
    return end(message, State.RCPTTO, Result.ERROR, 451, **more)


def by_key(outcome: Outcome) -> dict[str, Publication]:
    """The publications by routing key; each key once."""
    found = {publication.key: publication for publication in outcome.step.publications}
    assert len(found) == len(outcome.step.publications)
    return found


def body(publication: Publication) -> dict[str, Any]:
    """The JSON in a publication."""
    document: dict[str, Any] = orjson.loads(publication.body)
    return document
