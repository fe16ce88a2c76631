"""Chunks: where they end, and that only what belongs to them is taken."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.smtp_inbox.chunking import ChunkReader
from services.smtp_inbox.keeping import BareNewlines, ContentKeeper, Verdict


def keeper() -> ContentKeeper:
    return ContentKeeper(b"", limit=10_000, bare=BareNewlines.REFUSE)


def feed(reader: ChunkReader, size: int, pieces: Sequence[bytes]) -> bytes:
    """Feed a chunk of this size as it comes from the network; what stands behind it."""
    reader.left = size
    for place, piece in enumerate(pieces):
        rest = reader.feed(piece)
        if rest is not None:
            return rest + b"".join(pieces[place + 1 :])
    raise AssertionError("the chunk does not end")


CONTENT = st.lists(st.sampled_from([b"text", b"\r\n", b"\r\n.\r\n", b".", b"..", b"QUIT\r\n", b"\xff"]), max_size=12).map(
    b"".join
)


@given(CONTENT, st.lists(st.integers(0, 60)), st.lists(st.integers(0, 80)))
def test_however_the_content_is_cut_it_is_the_same_and_what_follows_is_not_touched(
    content: bytes, ends: list[int], cuts: list[int]
) -> None:
    kept = keeper()
    reader = ChunkReader(kept)
    places = sorted({0, len(content), *(end for end in ends if end < len(content))})
    for start, end in pairwise(places):
        data = content[start:end] + b"NOOP\r\n"
        marks = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        pieces = [data[one:two] for one, two in pairwise(marks)]
        assert feed(reader, end - start, pieces) == b"NOOP\r\n"
    kept.finish()
    assert kept.verdict is Verdict.FINE
    assert kept.take_content() == content
    assert reader.received == len(content)


@pytest.mark.parametrize(
    ("chunks", "verdict"),
    [
        ([b"text\r", b"\n"], Verdict.FINE),
        ([b"text\r", b"", b"\n"], Verdict.FINE),
        ([b"text"], Verdict.FINE),
        ([b"text\r"], Verdict.ILLEGAL),
        ([b"text\r", b"text"], Verdict.ILLEGAL),
        ([b"text", b"\n"], Verdict.ILLEGAL),
        ([b"text\r\n.\r", b"\r\n"], Verdict.ILLEGAL),
        ([b"\0"], Verdict.ILLEGAL),
    ],
    ids=["CR, LF", "CR, nothing, LF", "no line end", "CR at the end", "CR alone", "LF alone", "CR, CRLF", "NUL"],
)
def test_line_ends_over_the_bounds_of_chunks(chunks: list[bytes], verdict: Verdict) -> None:
    kept = keeper()
    reader = ChunkReader(kept)
    for chunk in chunks:
        feed(reader, len(chunk), [chunk])
    kept.finish()
    assert kept.verdict is verdict


def test_what_is_thrown_away_is_counted_and_not_kept() -> None:
    reader = ChunkReader(None)
    assert feed(reader, 10_000_000, [b"x" * 6_000_000, b"x" * 4_000_000 + b"NOOP"]) == b"NOOP"
    assert reader.received == 10_000_000
