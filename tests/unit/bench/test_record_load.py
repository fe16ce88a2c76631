"""The load of (g): every mail is accepted once and ends once, its end well behind its acceptance."""

from typing import Any

import orjson
import pytest
from pamqp import body, frame, header

from shared.wire.bundle import MOST_RECORDS
from shared.wire.message import APP_ID
from tests.bench.record_load import LAG, Records, count_messages, name_payload
from tests.bench.recording import find_rate


def parse(frames: bytes) -> tuple[str, Any]:
    """Event and document of a message."""
    event, content = "", b""
    while frames:
        size, _, one = frame.unmarshal(frames)
        frames = frames[size:]
        if isinstance(one, header.ContentHeader):
            assert one.properties.app_id == APP_ID
            event = str((one.properties.headers or {})["event"])
        elif isinstance(one, body.ContentBody):
            content += one.value
    return event, orjson.loads(content)


@pytest.mark.parametrize("results", [200, LAG + 400])
def test_every_mail_lives_once(results: int) -> None:
    records = Records(results, "g.example", has_payloads=True)
    seen: list[str] = []
    ended: list[str] = []
    for number in range(1, count_messages(results) + 1):
        event, document = parse(records.render(number))
        if event == "accepted":
            assert len(document) == MOST_RECORDS
            seen += [mail["id"] for mail in document]
            assert document[0]["key"] == name_payload("g.example", len(seen) - MOST_RECORDS)
        else:
            assert 1000 < len(orjson.dumps(document)) < 1400
            assert len(seen) - len(ended) >= min(LAG, results - len(ended))
            assert ("failure" if document["results"][0]["code"] == 550 else "success") == event
            ended.append(document["id"])
    assert len(set(seen)) == len(seen) == results
    assert seen == ended


def test_results_alone() -> None:
    records = Records(200, "g.example", is_alone=True)
    assert count_messages(200, is_alone=True) == 200
    told = [parse(records.render(number)) for number in range(1, 201)]
    assert {event for event, _ in told} == {"success", "failure"}
    assert len({document["id"] for _, document in told}) == 200


def test_rates_of_the_whole_and_of_a_part() -> None:
    samples = [(0.0, 0), (1.0, 100), (2.0, 200), (4.0, 300), (8.0, 400), (9.0, 400)]
    assert find_rate(samples, 0.0, 1.0) == 50
    assert find_rate(samples, 0.0, 0.5) == 100
    assert find_rate(samples, 0.5, 1.0) == pytest.approx(200 / 6)
    assert find_rate([], 0.0, 1.0) == 0
