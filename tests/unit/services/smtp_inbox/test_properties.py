"""What holds for whatever a client sends: the checks of the fuzz targets, on what hypothesis makes of their words."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.smtp_inbox.connection import Connection, Gone, LineTooLong
from tests.fuzz.targets import load

Line = bytes | tuple[bytes, bool]
"""A line; of one that is too long, its beginning and whether it ended in CRLF."""
LIMIT = 20


@pytest.mark.parametrize("name", ["data", "bdat", "paths", "arguments"])
def test_the_targets_of_fuzzing(name: str) -> None:
    target = load(name)

    @given(st.lists(st.sampled_from([*target.WORDS, *target.SEEDS]) | st.binary(max_size=8), max_size=12).map(b"".join))
    @settings(max_examples=100, deadline=None, database=None)
    def check(data: bytes) -> None:
        target.run(data)

    check()


def read_lines(pieces: Sequence[bytes]) -> list[Line]:
    """What a connection reads when these pieces come one after the other, and then no more."""

    async def read() -> list[Line]:
        connection, lines = Connection(asyncio.get_running_loop()), list[Line]()

        async def take() -> None:
            while True:
                try:
                    lines.append(await connection.read_line(LIMIT, 10))
                except LineTooLong as error:
                    lines.append((error.start, error.ends_in_crlf))
                except Gone:
                    return

        taking = asyncio.ensure_future(take())
        for piece in pieces:
            connection.data_received(piece)
            await asyncio.sleep(0)
        connection.eof_received()
        await taking
        return lines

    return asyncio.run(read())


@given(
    st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"NOOP", b"x" * 19, b"y" * 30, b"\0"]), max_size=20).map(b"".join),
    st.lists(st.integers(0, 400), max_size=12),
)
@settings(max_examples=100, deadline=None)
def test_lines_are_the_same_however_they_are_cut(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in pairwise(places)]
    whole = [line + b"\n" for line in stream.split(b"\n")[:-1]]
    expected = [line if len(line) <= LIMIT else (line[:8], line.endswith(b"\r\n")) for line in whole]
    assert read_lines(pieces) == expected
