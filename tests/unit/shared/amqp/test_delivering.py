"""A sender's order of work: what becomes of a mail that somebody has stopped when its process dies in the middle."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.amqp.frame import Frame
from shared.delivery.conditions import Index
from shared.delivery.finished import Finished
from shared.delivery.stops import NO_STOPS, Stops, parse_error
from shared.delivery.suppressions import Held
from shared.wire.instructions import Instructions
from shared.wire.message import Message
from shared.wire.publication import Step
from shared.wire.times import render_time
from tests.unit.shared.amqp import sender
from tests.unit.shared.delivery.messages import make_message

SUPPRESSED = Stops({"to@b.example": Held("unsubscribed")})
REFUSED = Stops(errors=Index([parse_error({"name": "x", "destination": "b.example", "code": 550})]))
FAR = {"time": "2099-01-01 00:00:00"}
PUT_OFF = Stops(errors=Index([parse_error({"name": "x", "destination": "b.example", "code": 450})]))


async def attempt(message: Message, instructions: Instructions) -> Finished:
    """Nothing is sent here."""
    raise AssertionError("an attempt was made")


async def deliver(folder: Path, frame: Frame, stops: Stops, **more: Any) -> Step:
    """With this in force; no attempt may be made."""
    return await sender.deliver(folder, frame, attempt=attempt, stops=lambda: stops, **more)


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


async def put_away(message: Message) -> Message:
    """The policy ``out``, with the store left out."""
    return message.with_properties({"key": "v1/k"}, without=("mime",))


@pytest.mark.parametrize("nextattempt", [None, FAR], ids=["refused for now", "not due"])
async def test_a_mail_that_waits_has_its_content_put_away_and_the_records_know(tmp_path: Path, nextattempt: Any) -> None:
    message = make_message(seen=render_time(datetime.now(UTC)), nextattempt=nextattempt)
    frame = Frame(orjson.dumps(dict(message.document)), None, True, False, 0, None, None, 1)
    mail, record = (await deliver(tmp_path, frame, PUT_OFF, put_away=put_away)).publications
    for told in (mail, record):
        document = orjson.loads(told.body)
        assert document["key"] == "v1/k"
        assert "mime" not in document
        assert len(document.get("results", [])) == (0 if nextattempt else 1)
    assert (record.key, record.headers) == ("record", {"event": "accepted" if nextattempt else "retry"})
    assert mail.key == ("outbox" if nextattempt else "retries")


@pytest.mark.parametrize("stops", [SUPPRESSED, REFUSED])
async def test_a_mail_that_is_final_is_not_put_away(tmp_path: Path, stops: Stops) -> None:
    async def never(message: Message) -> Message:
        raise AssertionError("stored for nothing")

    message = make_message(seen=render_time(datetime.now(UTC)))
    frame = Frame(orjson.dumps(dict(message.document)), None, True, False, 0, None, None, 1)
    step = await deliver(tmp_path, frame, stops, put_away=never)
    assert step.publications[0].key == "failure"


@pytest.mark.parametrize(("is_tried", "records"), [(False, ["accepted"]), (True, [])])
async def test_an_inbox_may_have_lost_the_record_of_a_stored_mail_that_waits(
    tmp_path: Path, is_tried: bool, records: list[str]
) -> None:
    results = {"results": [{"attempt": 1, "state": "rcptto", "result": "error"}]} if is_tried else {}
    message = make_message(seen=render_time(datetime.now(UTC)), nextattempt=FAR, mime=..., key="v1/k", sha256="0" * 64, **results)
    frame = Frame(orjson.dumps(dict(message.document)), None, True, False, 0, None, None, 1)
    mail, *told = (await deliver(tmp_path, frame, NO_STOPS)).publications
    assert mail.exchange == "wait.2h"
    assert [publication.headers["event"] for publication in told if publication.headers] == records
    assert [orjson.loads(publication.body)["key"] for publication in told] == ["v1/k"] * len(records)


@pytest.mark.parametrize("results", [[], [{"attempt": 1, "state": "rcptto", "result": "error"}]])
async def test_a_key_that_is_new_is_told_whether_the_mail_was_tried_or_not(tmp_path: Path, results: list[Any]) -> None:
    """The store may have been out of reach when it was to wait for the first time."""
    message = make_message(seen=render_time(datetime.now(UTC)), nextattempt=FAR, results=results)
    frame = Frame(orjson.dumps(dict(message.document)), None, True, False, 0, None, None, 1)
    _, record = (await deliver(tmp_path, frame, NO_STOPS, put_away=put_away)).publications
    assert orjson.loads(record.body)["key"] == "v1/k"


async def test_a_mail_without_anything_to_store_waits_without_a_further_record(tmp_path: Path) -> None:
    message = make_message(seen=render_time(datetime.now(UTC)), nextattempt=FAR)
    frame = Frame(orjson.dumps(dict(message.document)), None, True, False, 0, None, None, 1)
    [mail] = (await deliver(tmp_path, frame, NO_STOPS)).publications
    assert mail.exchange == "wait.2h"
