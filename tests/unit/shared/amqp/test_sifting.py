"""Deliveries are taken out of the stream whole, however it is cut, and everything else is the library's."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, frame, header, heartbeat

from shared.amqp.frame import Frame
from shared.amqp.sifting import SiftingReader, split_properties
from shared.amqp.tolerance import tolerate
from shared.wire.message import APP_ID

ANSWER = frame.marshal(commands.Basic.CancelOk("tag"), 1)
HEARTBEAT = frame.marshal(heartbeat.Heartbeat(), 0)
BAD_NAME = b"\x00\x00\x00\x09\x02\xff\xfeS\x00\x00\x00\x01x"
"""A table with a name that is not UTF-8."""


@pytest.fixture(autouse=True)
def tolerant() -> None:
    tolerate()


def deliver(tag: int, content: bytes, *, parts: int = 1, redelivered: bool = False, **properties: Any) -> list[bytes]:
    """The frames of a delivery."""
    given: dict[str, Any] = {
        "app_id": APP_ID,
        "delivery_mode": 2,
        "message_id": f"id-{tag}",
        "headers": {"event": "success"},
    } | properties
    head = header.ContentHeader(0, len(content), commands.Basic.Properties(**given))
    size = -(-len(content) // parts) or 1
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    method = commands.Basic.Deliver("consumer", tag, redelivered, "mailwarren", "record")
    return [frame.marshal(method, 1), frame.marshal(head, 1), *(frame.marshal(body.ContentBody(piece), 1) for piece in pieces)]


def sift(stream: bytes, cuts: list[int]) -> tuple[list[Frame], bytes]:
    """What is taken and what the library reads, when the stream arrives cut at these places."""

    async def read() -> tuple[list[Frame], bytes]:
        taken: list[Frame] = []
        inner = asyncio.StreamReader()
        reader = SiftingReader(inner, taken.append)
        places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
        passed = bytearray()

        async def drain() -> None:
            while True:
                try:
                    passed.extend(await reader.readexactly(1))
                except asyncio.IncompleteReadError:
                    return

        draining = asyncio.ensure_future(drain())
        for start, end in itertools.pairwise(places):
            inner.feed_data(stream[start:end])
            await asyncio.sleep(0)
        inner.feed_eof()
        await draining
        assert reader.at_eof()
        return taken, bytes(passed)

    return asyncio.run(read())


@given(st.lists(st.integers(0, 5000), max_size=12))
def test_however_the_stream_is_cut(cuts: list[int]) -> None:
    first = deliver(1, b"one", priority=3)
    second = deliver(2, b"two" * 50, parts=4, redelivered=True, headers={"event": "retry", "x-delivery-count": 2})
    stream = b"".join([ANSWER, *first, second[0], HEARTBEAT, *second[1:], *deliver(3, b""), ANSWER])
    taken, passed = sift(stream, cuts)
    assert passed == ANSWER + HEARTBEAT + ANSWER
    assert [(one.tag, one.body, one.redelivered, one.delivery_count, one.event, one.priority) for one in taken] == [
        (1, b"one", False, 0, "success", 3),
        (2, b"two" * 50, True, 2, "retry", None),
        (3, b"", False, 0, "success", None),
    ]
    assert all(one.is_ours for one in taken)


def test_what_differs_is_read_anew() -> None:
    """Each of these differs from the one before in one property; message-id and time do not count."""
    changes: list[dict[str, Any]] = [
        {},
        {"message_id": "another"},
        {"app_id": "stranger"},
        {"content_encoding": "gzip"},
        {"priority": 7},
        {"headers": {"event": "accepted"}},
        {"correlation_id": "c", "reply_to": "r", "expiration": "5000"},
    ]
    stream = b"".join(part for tag, change in enumerate(changes) for part in deliver(tag, b"x", **change))
    taken, _ = sift(stream, [])
    assert [(one.is_ours, one.encoding, one.priority, one.event) for one in taken] == [
        (True, None, None, "success"),
        (True, None, None, "success"),
        (False, None, None, "success"),
        (True, "gzip", None, "success"),
        (True, None, 7, "success"),
        (True, None, None, "accepted"),
        (True, None, None, "success"),
    ]


def test_an_unreadable_one_is_told_and_does_not_harm_the_next() -> None:
    method, head, content = deliver(1, b"x")
    payload = head[7:19] + b"\x20\x00" + BAD_NAME
    odd = b"\x02\x00\x01" + len(payload).to_bytes(4, "big") + payload + b"\xce"
    # The part that differs in every message is wrong, all the rest is as in the next one.
    worse = head.replace(b"id-1", b"i\xff\xfe1")
    taken, _ = sift(b"".join([method, odd, content, method, worse, content, *deliver(2, b"y")]), [])
    assert [one.body for one in taken] == [b"x", b"x", b"y"]
    assert taken[0].unreadable is not None
    assert (taken[2].unreadable, taken[2].is_ours, taken[2].event) == (None, True, "success")


def test_what_is_not_amqp_is_left_to_the_library() -> None:
    assert sift(b"AMQP\x00\x00\x09\x01", [3]) == ([], b"AMQP\x00\x00\x09\x01")


@given(st.binary(max_size=60))
def test_properties_of_any_kind_are_split_or_refused(octets: bytes) -> None:
    try:
        before, behind = split_properties(bytes(12) + octets)
    except (ValueError, IndexError):
        return
    assert octets.startswith(before)
    assert octets.endswith(behind)
