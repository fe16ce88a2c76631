"""The lean publisher: its frames are what an AMQP library makes of the same message, its confirms are counted right."""

import json
import struct

import pytest
from pamqp import commands, frame, header
from pamqp.body import ContentBody

from tests.bench.amqp import FRAME_MAX
from tests.bench.publisher import Mails, Unconfirmed, render_number, render_template


def parse_frames(octets: bytes) -> list[object]:
    found: list[object] = []
    while octets:
        count, channel, one = frame.unmarshal(octets)
        assert channel == 1
        found.append(one)
        octets = octets[count:]
    return found


@pytest.mark.parametrize("size", [5_000, 100_000, 131_000, 400_000])
def test_a_publication_is_a_persistent_mandatory_message_to_one_recipient(size: int) -> None:
    method, head, *bodies = parse_frames(render_number(render_template(size, "b5-1.example"), 42))
    assert isinstance(method, commands.Basic.Publish)
    assert (method.exchange, method.routing_key, method.mandatory) == ("outbox", "", True)
    assert isinstance(head, header.ContentHeader)
    assert (head.properties.delivery_mode, head.properties.content_type) == (2, "application/json")
    octets = b""
    for body in bodies:
        assert isinstance(body, ContentBody)
        assert body.value is not None
        assert len(body.value) <= FRAME_MAX - 8
        octets += body.value
    assert head.body_size == len(octets)
    document = json.loads(octets)
    assert document["recipient"] == "r0000042@b5-1.example"
    headers, _, text = document["mime"].partition("\r\n\r\n")
    assert "To: <r0000042@b5-1.example>" in headers
    assert len(text) == size


def parse_document(octets: bytes) -> dict[str, str]:
    bodies = [one.value for one in parse_frames(octets) if isinstance(one, ContentBody)]
    document: dict[str, str] = json.loads(b"".join(body or b"" for body in bodies))
    return document


def test_many_domains_are_written_to_in_turn() -> None:
    mails = Mails(7, 100, "e.example", domains=3, sender="news@signed.example")
    documents = [parse_document(mails.render(number)) for number in range(1, 8)]
    assert [one["recipient"] for one in documents[:4]] == [
        "r0000001@d0000.e.example",
        "r0000002@d0001.e.example",
        "r0000003@d0002.e.example",
        "r0000004@d0000.e.example",
    ]
    assert {one["envelope"] for one in documents} == {"news@signed.example"}
    assert "\r\nTo: <r0000004@d0000.e.example>\r\n" in documents[3]["mime"]
    assert documents[3]["mime"].startswith("From: <news@signed.example>\r\n")


@pytest.mark.parametrize(("messages", "middle"), [(1, 1), (4, 2), (5, 3)])
def test_the_mail_in_the_middle_is_the_large_one(messages: int, middle: int) -> None:
    mails = Mails(messages, 100, "b.example", large=200_000)
    sizes = [len(parse_document(mails.render(number))["mime"]) for number in range(1, messages + 1)]
    assert [number for number, size in enumerate(sizes, 1) if size > 200_000] == [middle]
    assert parse_document(mails.render(middle))["recipient"] == f"r{middle:07}@b.example"


def method(number: int, tag: int = 0, bits: int = 0) -> memoryview:
    return memoryview(struct.pack(">HHQB", 60, number, tag, bits))


def test_confirms_are_counted_in_any_order() -> None:
    unconfirmed = Unconfirmed()
    unconfirmed.add(5)
    unconfirmed.take(method(80, tag=5))
    unconfirmed.take(method(80, tag=2))
    assert len(unconfirmed) == 3
    unconfirmed.take(method(80, tag=3, bits=1))
    assert len(unconfirmed) == 1
    unconfirmed.take(method(80, tag=4))
    assert (len(unconfirmed), unconfirmed.refused) == (0, 0)


def test_what_is_refused_or_comes_back_is_counted() -> None:
    unconfirmed = Unconfirmed()
    unconfirmed.add(4)
    unconfirmed.take(method(50))  # returned, then confirmed
    unconfirmed.take(method(80, tag=1))
    unconfirmed.take(method(120, tag=3, bits=1))
    assert (len(unconfirmed), unconfirmed.refused) == (1, 3)


def test_anything_else_that_the_broker_says_is_an_error() -> None:
    with pytest.raises(ConnectionError):
        Unconfirmed().take(memoryview(struct.pack(">HHHB", 20, 40, 406, 0)))
