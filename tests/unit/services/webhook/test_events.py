"""From records to events."""

from __future__ import annotations

import orjson
import pytest

from services.webhook.events import MOST_OCTETS, Event, make_event, parse_events
from shared.trouble import BadMessage
from tests.support.record_frames import make_frame, make_mail, make_result


def only(event: str | None, **properties: object) -> Event:
    mail = make_mail() | properties
    [found] = parse_events(make_frame(mail, event))
    return found


@pytest.mark.parametrize(
    ("header", "kind"), [("accepted", "accepted"), ("retry", "deferred"), ("success", "delivered"), ("failure", "failed")]
)
def test_the_header_says_what_happened(header: str, kind: str) -> None:
    event = only(header, results=[make_result(3)])
    assert event.kind == event.document["type"] == kind
    assert event.id.endswith(f".{0 if kind == 'accepted' else 3}.{kind}")
    assert event.document["timestamp"].endswith("Z")


def test_the_same_thing_has_the_same_id() -> None:
    mail = make_mail() | {"results": [make_result(2)]}
    assert make_event(mail, "delivered").id == make_event({**mail, "tags": ["x"]}, "delivered").id
    assert make_event(mail, "delivered").id != make_event({**mail, "results": [make_result(3)]}, "delivered").id


@pytest.mark.parametrize("name", ["mime", "mime64", "key", "dkim", "arc", "smarthost"])
def test_neither_content_nor_secrets_are_told(name: str) -> None:
    assert name not in only("success", **{name: {"password": "x"}}, results=[make_result()]).document["data"]


def test_without_its_header_the_content_tells_or_it_is_parked() -> None:
    assert only(None).kind == "accepted"
    assert only(None, results=[make_result()]).kind == "delivered"
    with pytest.raises(BadMessage, match="header event is missing"):
        only(None, results=[make_result(result="error", code=550)])


def test_a_bundle_is_many() -> None:
    mails = [make_mail(), make_mail()]
    found = parse_events(make_frame(orjson.dumps(mails), "accepted"))
    assert [event.id for event in found] == [f"{mail['id']}.0.accepted" for mail in mails]


def test_one_that_is_too_large_tells_what_matters() -> None:
    results = [make_result(1, description="x" * 1000)] * 99 + [make_result(100, "rcptto", "error", code=550)]
    event = only("failure", results=results, headers={"x": "y" * 10_000})
    assert len(orjson.dumps(event.document)) < MOST_OCTETS
    data = event.document["data"]
    assert data["truncated"] is True
    assert (data["results"][-1]["code"], len(data["results"]), data["recipient"]) == (550, 1, "bob@example.net")
    assert event.id.endswith(".100.failed")


@pytest.mark.parametrize("body", [b"", b"{", b"7", b"[7]", b"{}", b'{"id": 7}', b"[" * 500 + b"]" * 500])
def test_what_is_no_record_is_parked(body: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_events(make_frame(body, "success"))


def test_a_record_of_somebody_else_is_parked() -> None:
    with pytest.raises(BadMessage, match="app-id"):
        parse_events(make_frame(make_mail(), "success", is_ours=False))
