"""Lines of a stream: bounded, whole, never more than was sent."""

import gzip
from collections.abc import Mapping, MutableMapping, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from services.json_inbox.body import find_size, iter_lines
from services.json_inbox.problems import Problem


def request(chunks: Sequence[bytes], headers: Mapping[str, str] | None = None, *, leaves: bool = False) -> Request:
    """A request whose body comes in these chunks; ``leaves``: then the client is gone."""
    events: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    events.append({"type": "http.disconnect"} if leaves else {"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> MutableMapping[str, Any]:
        return events.pop(0)

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


async def read(given: Request, limit: int = 100) -> list[bytes]:
    return [line async for line in iter_lines(given, limit=limit, patience=timedelta(seconds=30), on_long=_do_nothing)]


async def _do_nothing() -> None:
    return


@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300)), packed=st.booleans())
async def test_the_same_lines_however_they_are_cut(body: bytes, cuts: list[int], packed: bool) -> None:
    sent = gzip.compress(body) if packed else body
    places = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    chunks = [sent[start:end] for start, end in pairwise(places)]
    lines = await read(request(chunks, {"content-encoding": "gzip"} if packed else {}), 300)
    assert lines == (body.split(b"\n")[:-1] if body.endswith(b"\n") else body.split(b"\n") if body else [])


async def test_a_line_without_end_is_cut_off() -> None:
    with pytest.raises(Problem) as refused:
        await read(request([b"x" * 60] * 1000))
    assert refused.value.status == 413
    with pytest.raises(Problem) as refused:
        await read(request([b"x" * 101 + b"\n"]))
    assert refused.value.status == 413


async def test_a_packed_line_without_end_is_cut_off_before_it_is_unpacked() -> None:
    bomb = gzip.compress(b" " * 100_000_000)
    with pytest.raises(Problem) as refused:
        await read(request([bomb], {"content-encoding": "gzip"}), 1000)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(b"one\ntwo\nthree")[:-9],
        b"one\ntwo\n",
        gzip.compress(b"one\n") + b"rubbish",
        gzip.compress(b"one\n") + gzip.compress(b"two\n"),
        b"",
    ],
    ids=["cut", "plain", "rubbish-behind", "two-streams", "empty"],
)
async def test_what_is_no_whole_gzip_is_refused(body: bytes) -> None:
    with pytest.raises(Problem, match="gzip") as refused:
        await read(request([body], {"content-encoding": "gzip"}))
    assert refused.value.status == 400


async def test_who_leaves_in_the_middle_of_a_line_has_not_said_it() -> None:
    lines = iter_lines(
        request([b'{"a": 1}\n{"b": 2}'], leaves=True), limit=100, patience=timedelta(seconds=30), on_long=_do_nothing
    )
    assert await anext(lines) == b'{"a": 1}'
    with pytest.raises(ClientDisconnect):
        await anext(lines)


@pytest.mark.parametrize(
    ("headers", "size"),
    [
        ({}, 1000),
        ({"content-length": "7"}, 7),
        ({"content-length": "7", "content-encoding": "gzip"}, 1000),
        ({"content-length": "9" * 50}, 1000),
        ({"content-length": "-1"}, 1000),
    ],
)
def test_the_room_that_a_body_needs(headers: dict[str, str], size: int) -> None:
    assert find_size(request([], headers), 1000) == size
