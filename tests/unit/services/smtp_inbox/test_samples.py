"""What stays of content that was thrown away, for whoever looks at refused mail."""

import pytest

from services.smtp_inbox.keeping import BareNewlines, ContentKeeper, Verdict

PREFIX = b"Received: us\r\n"


def keep(*pieces: bytes, sample: int = 1000, limit: int = 100) -> ContentKeeper:
    keeper = ContentKeeper(PREFIX, limit=limit, bare=BareNewlines.REFUSE, sample=sample)
    for piece in pieces:
        keeper.keep(piece)
    keeper.finish()
    return keeper


@pytest.mark.parametrize(
    ("pieces", "verdict"),
    [
        ((b"bare\nnewline\r\n",), Verdict.ILLEGAL),
        ((b"text\r\n", b"bare\nnewline\r\n"), Verdict.ILLEGAL),
        ((b"nul\0\r\n",), Verdict.ILLEGAL),
        ((b"ends in\r",), Verdict.ILLEGAL),
        ((b"a" * 60, b"b" * 60), Verdict.TOO_LARGE),
        ((b"a" * 120,), Verdict.TOO_LARGE),
    ],
    ids=["bare", "bare later", "nul", "return at the end", "too large", "too large at once"],
)
def test_all_of_it_when_it_is_short(pieces: tuple[bytes, ...], verdict: Verdict) -> None:
    keeper = keep(*pieces)
    assert keeper.verdict is verdict
    assert (keeper.sample, keeper.thrown) == (PREFIX + b"".join(pieces), 0)


def test_the_beginning_when_it_is_long() -> None:
    keeper = keep(b"a" * 60, b"b" * 60, b"c" * 60, sample=40)
    assert keeper.sample == (PREFIX + b"a" * 60)[:40]
    assert keeper.thrown == len(PREFIX) + 180 - 40


def test_what_comes_after_the_mistake_is_counted() -> None:
    keeper = keep(b"bare\n", b"more\r\n", b"more\r\n")
    assert (keeper.sample, keeper.thrown) == (PREFIX + b"bare\n", 12)


def test_nothing_unless_asked_for() -> None:
    keeper = keep(b"bare\n", sample=0)
    assert keeper.sample == b""


def test_nothing_of_content_that_is_fine() -> None:
    keeper = keep(b"fine\r\n")
    assert (keeper.verdict, keeper.sample, keeper.thrown) == (Verdict.FINE, b"", 0)
