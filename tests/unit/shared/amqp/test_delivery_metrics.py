"""What a sender counts: a mail fails once, when nobody is left who could take it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import REGISTRY

from shared.amqp.frame import Frame
from shared.delivery.finished import Finished
from shared.wire.instructions import Instructions
from shared.wire.message import Message
from shared.wire.result import Attempt, Result, State
from shared.wire.times import render_time
from tests.unit.shared.amqp.sender import deliver
from tests.unit.shared.delivery.messages import make_message

NAMES = {
    "delivered": ("delivered_messages_total", {"strategy": "smtp"}),
    "failed": ("failed_messages_total", {}),
    "bad-mailbox failed": ("delivery_refusals_total", {"class": "bad-mailbox", "verdict": "failed"}),
    "bad-mailbox next": ("delivery_refusals_total", {"class": "bad-mailbox", "verdict": "next-strategy"}),
    "quota retry": ("delivery_refusals_total", {"class": "quota", "verdict": "retry"}),
    "delivered after a minute": ("message_verdict_seconds_bucket", {"verdict": "delivered", "le": "300.0"}),
    "delivered within a minute": ("message_verdict_seconds_bucket", {"verdict": "delivered", "le": "60.0"}),
    "failed after some time": ("message_verdict_seconds_count", {"verdict": "failed"}),
}


def count() -> dict[str, float]:
    return {what: REGISTRY.get_sample_value(name, labels) or 0 for what, (name, labels) in NAMES.items()}


async def handle(folder: Path, reply: tuple[Result, int, str, str], **properties: Any) -> None:
    result, code, status, text = reply

    async def attempt(message: Message, _: Instructions) -> Finished:
        state = State.MESSAGE if result is Result.ACCEPTED else State.RCPTTO
        return Finished(Attempt(state, result, message.attempt, datetime.now(UTC), code, status, text, strategy="smtp"), size=10)

    message = make_message(seen=render_time(datetime.now(UTC) - timedelta(seconds=100)), **properties)
    frame = Frame(orjson.dumps(dict(message.document)), None, True, False, 0, None, None, 1)
    await deliver(folder, frame, attempt=attempt)


NO_SUCH = (Result.ERROR, 550, "5.1.1", "no such user here")
FULL = (Result.ERROR, 452, "4.2.2", "mailbox full")


@pytest.mark.parametrize(
    ("reply", "outbound", "changed"),
    [
        ((Result.ACCEPTED, 250, "2.0.0", "ok"), [], {"delivered", "delivered after a minute"}),
        (NO_SUCH, [], {"failed", "bad-mailbox failed", "failed after some time"}),
        (NO_SUCH, ["seal"], {"bad-mailbox next"}),
        (FULL, ["seal"], {"quota retry"}),
    ],
    ids=["delivered", "refused", "handed-on", "put-off"],
)
async def test_each_verdict_is_counted_as_what_it_is(tmp_path: Path, reply: Any, outbound: list[str], changed: set[str]) -> None:
    before = count()
    await handle(tmp_path, reply, outbound=outbound)
    after = count()
    assert {what: after[what] - before[what] for what in NAMES if after[what] != before[what]} == dict.fromkeys(changed, 1)
