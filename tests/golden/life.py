"""The life of one message, told by a file: what comes in, how each attempt ends, what is published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID

import orjson

from shared.delivery.outcome import Keys, Outcome, check_queues, conclude, refuse
from shared.delivery.schedule import decide_schedule
from shared.delivery.settings import RetrySettings
from shared.delivery.verdict import Failed, Retry, Sent
from shared.wire.instructions import InvalidProperty, parse_instructions
from shared.wire.message import parse_message
from shared.wire.publication import Publication
from shared.wire.result import Attempt, Result, State
from shared.wire.times import parse_time

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.json"))
KEYS = Keys(reserved=frozenset({"outbox", "retries", "record", "inbox", "seal"}))
NEW_ID = UUID("00000000-0000-4000-8000-000000000001")


def read(path: Path) -> dict[str, Any]:
    """``about``, ``ours`` (is the app-id ours?), ``time``, ``message``, ``attempts``, and ``published`` (expected)."""
    told: dict[str, Any] = orjson.loads(path.read_bytes())
    return told


def live(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Run the message through the pure code: for every attempt the verdict and the publications, the way they go over the wire."""
    return list(_live(told))


def _live(told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    now, body, is_ours = parse_time(told["time"]), orjson.dumps(told["message"]), told["ours"]
    for given in told["attempts"]:
        with patch("shared.wire.message.uuid4", return_value=NEW_ID):
            message = parse_message(body, encoding=None, is_ours=is_ours, now=now)
        try:
            instructions = parse_instructions(message)
            check_queues(instructions, KEYS)
        except InvalidProperty as reason:
            yield _render(refuse(message, reason, keys=KEYS, now=now))
            return
        schedule = decide_schedule(message, instructions, RetrySettings())
        extracted = given.get("extracted")
        attempt = _attempt(given, message.attempt)
        outcome = conclude(
            message,
            replace(attempt, time=now),
            instructions=instructions,
            schedule=schedule,
            keys=KEYS,
            now=now,
            extracted=extracted,
        )
        yield _render(outcome)
        following = [one for one in outcome.step.publications if one.key in ("retries", "seal")]
        if not following:
            return
        body, is_ours = following[0].body, True
        # The attempt takes a second; the next one begins when it is due.
        now = max(outcome.verdict.due if isinstance(outcome.verdict, Retry) else now, now) + timedelta(seconds=1)


def _attempt(given: Mapping[str, Any], number: int) -> Attempt:
    fields = {name: value for name, value in given.items() if name not in ("state", "result", "extracted")}
    return Attempt(State(given["state"]), Result(given["result"]), number, parse_time("2000-01-01 00:00:00"), **fields)


def _render(outcome: Outcome) -> dict[str, Any]:
    verdict = {Sent: "sent", Retry: "retry", Failed: "failed"}[type(outcome.verdict)]
    return {"verdict": verdict, "publications": [_show(one) for one in outcome.step.publications]}


def _show(publication: Publication) -> dict[str, Any]:
    shown = {
        "key": publication.key,
        "bcc-record": publication.record,
        "headers": dict(publication.headers),
        "priority": publication.priority,
        "otherwise": publication.otherwise,
        "may-be-dropped": publication.is_optional,
    }
    return {name: value for name, value in shown.items() if value not in (None, False, {})} | {
        "body": orjson.loads(publication.body)
    }
