"""Large content on its way to the message store: what stays in memory, what is written, and what ends it."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.smtp_inbox.keeping import BareNewlines, Budget, ContentKeeper, Head, Streaming, Verdict, find_head
from shared.acceptance import Streamed
from shared.storage.payloads import StoreFull
from shared.trouble import Unavailable

PREFIX = b"Received: from us\r\n"
HEADER = b"Subject: x\r\n\r\n"


class Uploaded:
    """An upload that remembers what was done to it, and breaks when told to."""

    def __init__(self, breaks: Exception | None = None) -> None:
        self.content = b""
        self.discarded = 0
        self.breaks = breaks

    def write(self, piece: bytes | memoryview) -> None:
        if self.breaks is not None and self.content:
            raise self.breaks
        self.content += piece

    async def read(self) -> bytes:
        return self.content

    async def commit(self, key: str) -> None:
        raise AssertionError("a keeper commits nothing")

    def discard(self) -> None:
        self.discarded += 1


def open_keeper(upload: Uploaded, *, memory: Budget | None = None) -> ContentKeeper:
    """A keeper that holds 100 octets in memory."""
    return ContentKeeper(
        PREFIX,
        limit=10_000,
        bare=BareNewlines.REFUSE,
        budgets=(memory,) if memory else (),
        streaming=Streaming(lambda: upload, Budget(10_000), threshold=100),
    )


def test_small_content_stays_in_memory() -> None:
    upload = Uploaded()
    keeper = open_keeper(upload)
    keeper.keep(HEADER + b"x" * (100 - len(HEADER)))
    keeper.finish()

    content = keeper.take_content()

    assert content == PREFIX + HEADER + b"x" * (100 - len(HEADER))
    assert upload.content == b""
    assert keeper.compute_digest(content) == hashlib.sha256(content[len(PREFIX) :]).hexdigest()


@given(st.lists(st.integers(0, 400), max_size=12), st.integers(101, 300))
def test_large_content_goes_to_the_upload_however_it_is_cut(places: list[int], size: int) -> None:
    memory, upload = Budget(10_000), Uploaded()
    keeper = open_keeper(upload, memory=memory)
    header = b"X-MQ-Tag: one\r\nSubject: x\r\nx-mq-tag: two\r\n\r\n"
    sent = header + b"text\r\n" * size
    edges = [0, *sorted(place % (len(sent) + 1) for place in places), len(sent)]
    for start, end in pairwise(edges):
        keeper.keep(sent[start:end])
    keeper.finish()

    content = keeper.take_content()

    left = PREFIX + HEADER + b"text\r\n" * size
    assert isinstance(content, Streamed)
    assert content.head == PREFIX + header
    assert upload.content == left
    assert (content.size, content.sha256) == (len(left), hashlib.sha256(left).hexdigest())
    assert keeper.compute_digest(content) == hashlib.sha256(sent).hexdigest()
    assert keeper.size == len(sent)
    assert memory.held == len(PREFIX + header)
    keeper.release()
    assert memory.held == 0
    assert upload.discarded == 1


@pytest.mark.parametrize(
    ("piece", "verdict"),
    [(b"x" * 10_000, Verdict.TOO_LARGE), (b"a\nb", Verdict.ILLEGAL), (b"\0", Verdict.ILLEGAL)],
    ids=["too large", "bare LF", "NUL"],
)
def test_what_breaks_a_rule_later_is_discarded(piece: bytes, verdict: Verdict) -> None:
    upload = Uploaded()
    keeper = open_keeper(upload)
    keeper.keep(HEADER + b"x" * 200)
    written = upload.content

    keeper.keep(piece)
    keeper.keep(b"more")
    keeper.finish()

    assert keeper.verdict is verdict
    assert upload.content == written
    assert upload.discarded >= 1


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(StoreFull("no space left"), Verdict.NO_ROOM), (Unavailable("gone"), Verdict.OUR_TROUBLE)],
    ids=["full", "gone"],
)
def test_trouble_of_the_store(error: Exception, verdict: Verdict) -> None:
    upload = Uploaded(breaks=error)
    keeper = open_keeper(upload)

    keeper.keep(HEADER + b"x" * 200)

    assert (keeper.verdict, keeper.trouble) == (verdict, str(error))
    assert upload.discarded == 1


def test_the_disk_has_a_budget_that_is_given_back() -> None:
    spool, upload, other = Budget(500), Uploaded(), Uploaded()

    def open_one(upload: Uploaded) -> ContentKeeper:
        streaming = Streaming(lambda: upload, spool, threshold=100)
        return ContentKeeper(PREFIX, limit=10_000, bare=BareNewlines.REFUSE, streaming=streaming)

    first, second = open_one(upload), open_one(other)
    first.keep(HEADER + b"x" * 300)
    second.keep(HEADER + b"x" * 300)

    assert (first.verdict, second.verdict) == (Verdict.FINE, Verdict.TOO_MUCH)
    assert (upload.discarded, other.discarded) == (0, 1)
    first.release()
    first.release()
    assert spool.held == 0


@pytest.mark.parametrize(
    ("content", "head"),
    [
        (b"A: b\r\n\r\nbody", Head(8, 8)),
        (b"A: b\r\nC: d\r\n", None),
        (b"A: b\r\nC: d", None),
        (b"A: b\r\nno header yet, perhaps", None),
        (b"A: b\r\nno header\r\nX: y\r\npart of a", Head(6, 23)),
        (b"A: b\r\n" + b"x" * 999, Head(6, 6)),
        (b"A: " + b"x" * 5000, None),
    ],
    ids=["empty line", "fields", "part of a field", "part of a line", "not a field", "long line", "long field"],
)
def test_where_the_header_section_ends(content: bytes, head: Head | None) -> None:
    assert find_head(content) == head


@pytest.mark.parametrize("cuts", [1, 7, 1000], ids=str)
def test_a_header_section_that_does_not_end_is_refused_however_it_is_cut(cuts: int) -> None:
    keeper = open_keeper(Uploaded())
    content = b"X: " + b"x" * 98 + b"\r\n\r\nbody\r\n"
    for start in range(0, len(content), cuts):
        keeper.keep(content[start : start + cuts])
    keeper.finish()

    assert keeper.verdict is Verdict.HEADER_TOO_LARGE


def test_text_without_a_header_section() -> None:
    upload = Uploaded()
    keeper = open_keeper(upload)
    keeper.keep(b"just text\r\nX-MQ-Tag: x\r\n" + b"more text\r\n" * 10)
    keeper.keep(b"X-MQ-Tag: text\r\n")
    keeper.finish()

    content = keeper.take_content()

    assert isinstance(content, Streamed)
    assert content.head == PREFIX
    assert upload.content == PREFIX + b"just text\r\n" + b"more text\r\n" * 10 + b"X-MQ-Tag: text\r\n"


def test_when_memory_is_short_smaller_content_is_streamed_too() -> None:
    memory, upload = Budget(50), Uploaded()
    keeper = open_keeper(upload, memory=memory)
    keeper.keep(HEADER + b"x" * 30)
    assert (memory.held, upload.content) == (len(HEADER) + 30, b"")
    keeper.keep(b"y" * 30)

    assert keeper.verdict is Verdict.FINE
    assert upload.content == PREFIX + HEADER + b"x" * 30 + b"y" * 30
    assert memory.held == len(PREFIX + HEADER)

    for budget, content in ((10, b"Subject: not yet complete"), (10, HEADER + b"x" * 200), (30, b"x" * 31)):
        refused = open_keeper(Uploaded(), memory=Budget(budget))
        refused.keep(content)
        assert refused.verdict is Verdict.TOO_MUCH
