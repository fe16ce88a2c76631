"""A sender's order of work: what becomes of a mail that somebody has stopped when its process dies in the middle."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.amqp.consumer import Frame
from shared.amqp.delivering import Delivering
from shared.amqp.notifying import Notifying
from shared.amqp.once import Once
from shared.delivery.conditions import Index
from shared.delivery.finished import Finished
from shared.delivery.patterns_file import load_patterns
from shared.delivery.settings import RetrySettings
from shared.delivery.stops import NO_STOPS, Stops, parse_error
from shared.delivery.suppressions import Held
from shared.process import Runtime
from shared.storage.journal import FileJournal
from shared.wire.instructions import Instructions
from shared.wire.message import Message
from shared.wire.publication import Step
from shared.wire.times import render_time
from tests.unit.shared.delivery.messages import KEYS, make_message

SUPPRESSED = Stops({"to@b.example": Held("unsubscribed")})
REFUSED = Stops(errors=Index([parse_error({"name": "x", "destination": "b.example", "code": 550})]))
PUT_OFF = Stops(errors=Index([parse_error({"name": "x", "destination": "b.example", "code": 450})]))


async def attempt(message: Message, instructions: Instructions) -> Finished:
    """Nothing is sent here."""
    raise AssertionError("an attempt was made")


async def fetch(message: Message) -> bytes:
    """The content of every mail."""
    return b"Subject: x\r\n\r\nhello\r\n"


async def deliver(folder: Path, frame: Frame, stops: Stops) -> Step:
    """The step of a process that dies before the step is published."""
    settings, journal = RetrySettings(), FileJournal(folder)
    delivering = Delivering(
        strategy="smtp",
        home="outbox",
        attempt=attempt,
        once=Once(journal),
        settings=settings,
        keys=KEYS,
        runtime=Runtime("test"),
        notifying=Notifying(fetch, "me.example", settings, KEYS),
        patterns=load_patterns(""),
        stops=lambda: stops,
    )
    try:
        return await delivering.handle(frame)
    finally:
        journal.close()


@pytest.mark.parametrize(
    ("stops", "first", "outbound"),
    [(SUPPRESSED, "failure", None), (REFUSED, "failure", None), (PUT_OFF, "retries", ["seal"])],
    ids=["suppressed", "refused", "put-off"],
)
async def test_no_other_strategy_takes_a_stopped_mail_whoever_tells_it(
    tmp_path: Path, stops: Stops, first: str, outbound: Any
) -> None:
    message = make_message(seen=render_time(datetime.now(UTC)), outbound=["seal"])
    frame = Frame(orjson.dumps(dict(message.document)), None, True, False, 0, None, None, 1)
    before = await deliver(tmp_path, frame, stops)
    # The list has changed since; what stands in the journal is told all the same.
    after = await deliver(tmp_path, frame, NO_STOPS)
    for step in (before, after):
        keys = [publication.key for publication in step.publications]
        assert keys[0] == first
        assert "seal" not in keys
        if outbound is not None:
            # Once nothing stops it any more, the chain goes on.
            assert orjson.loads(step.publications[0].body)["outbound"] == outbound
