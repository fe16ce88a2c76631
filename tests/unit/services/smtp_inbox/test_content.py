"""Where DATA ends, in whatever pieces it comes."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.smtp_inbox.content import ContentReader
from services.smtp_inbox.keeping import BareNewlines, Budget, ContentKeeper, Verdict, normalize_newlines

PREFIX = b"Received: from us\r\n"

# What matters to the reader, often; everything else, sometimes.
pieces = st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"\0", b"\r\n.", b"\r\n.\r", b"text of a line\r\n", b"\xff"])
contents = st.lists(pieces, max_size=40).map(b"".join)
cuts = st.lists(st.integers(0, 400), max_size=12)


def read(
    stream: bytes, places: list[int], *, limit: int = 10_000, bare: BareNewlines = BareNewlines.NORMALIZE
) -> tuple[ContentKeeper, bytes | None]:
    """The keeper of a reader that was fed with the stream cut at these places, and what it gave back."""
    keeper = ContentKeeper(PREFIX, limit=limit, bare=bare)
    reader = ContentReader(keeper)
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    for start, end in pairwise(edges):
        rest = reader.feed(stream[start:end])
        if rest is not None:
            return keeper, rest + stream[end:]
    return keeper, None


def stuff(content: bytes) -> bytes:
    """As a client must send it (RFC 5321 4.5.2): a dot before the dot of every line that begins with one."""
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]


@given(contents, contents, cuts)
def test_what_a_client_stuffed_comes_out_as_it_was_however_it_was_cut(content: bytes, behind: bytes, places: list[int]) -> None:
    content = normalize_newlines(content.replace(b"\0", b""))
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"

    keeper, rest = read(stuff(content) + b".\r\n" + behind, places, bare=BareNewlines.REFUSE)

    assert rest == behind
    assert keeper.verdict is Verdict.FINE
    assert keeper.size == len(content)
    assert keeper.take_content() == PREFIX + content


@given(contents, cuts)
def test_the_cuts_change_nothing(stream: bytes, places: list[int]) -> None:
    for bare in BareNewlines:
        whole, cut = read(stream + b"\r\n.\r\nNOOP\r\n", [], bare=bare), read(stream + b"\r\n.\r\nNOOP\r\n", places, bare=bare)

        assert cut[1] == whole[1]
        assert cut[0].verdict is whole[0].verdict
        assert cut[0].take_content() == whole[0].take_content()


@given(contents, cuts)
def test_only_crlf_dot_crlf_ends_it(stream: bytes, places: list[int]) -> None:
    end = (b"\r\n" + stream).find(b"\r\n.\r\n")

    keeper, rest = read(stream, places)

    assert rest == (None if end < 0 else stream[end + 3 :])
    content = keeper.take_content()
    assert isinstance(content, bytes)
    assert b"\r" not in content.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    "sequence",
    [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n", b"\r\r\n.\r", b"\n\n.\r\n", b"\r\n.\r\r\n"],
    ids=repr,
)
@pytest.mark.parametrize("places", [[], list(range(60))], ids=["whole", "octet by octet"])
def test_a_smuggling_sequence_is_content_and_refused(sequence: bytes, places: list[int]) -> None:
    stream = b"first" + sequence + b"MAIL FROM:<evil@example.com>\r\n.\r\n"

    keeper, rest = read(stream, places, bare=BareNewlines.REFUSE)

    assert rest == b""
    assert keeper.verdict is Verdict.ILLEGAL


@pytest.mark.parametrize("bare", BareNewlines)
def test_a_nul_before_the_dot_does_not_end_it_and_is_refused(bare: BareNewlines) -> None:
    """A next hop that drops the NUL would see an end of the content."""
    keeper, rest = read(b"first\r\n\0.\r\nMAIL FROM:<evil@example.com>\r\n.\r\n", [], bare=bare)

    assert rest == b""
    assert keeper.verdict is Verdict.ILLEGAL


def test_normalize_makes_a_hidden_end_a_line_with_a_dot() -> None:
    keeper, rest = read(b"first\n.\nQUIT\r\n.\r\n", [])

    assert rest == b""
    assert keeper.take_content() == PREFIX + b"first\r\n.\r\nQUIT\r\n"


@pytest.mark.parametrize(
    ("stream", "content"), [(b".\r\n", b""), (b"..\r\n.\r\n", b".\r\n"), (b".a\r\n.\r\n", b"a\r\n")], ids=repr
)
def test_a_dot_in_the_first_line(stream: bytes, content: bytes) -> None:
    keeper, rest = read(stream, [])

    assert rest == b""
    assert keeper.take_content() == PREFIX + content


def test_the_limit_is_the_last_size_that_fits() -> None:
    fits, _ = read(b"x" * 98 + b"\r\n.\r\n", [], limit=100)
    larger, rest = read(b"x" * 99 + b"\r\n.\r\nQUIT\r\n", [], limit=100)

    assert fits.verdict is Verdict.FINE
    assert larger.verdict is Verdict.TOO_LARGE
    assert rest == b"QUIT\r\n"


def test_what_is_too_large_is_not_kept() -> None:
    keeper = ContentKeeper(b"", limit=1000, bare=BareNewlines.REFUSE)
    reader = ContentReader(keeper)
    for _ in range(100):
        assert reader.feed(b"x" * 1000) is None

    assert reader.received == 100_000
    assert keeper.take_content() == b""


def test_a_shared_budget_refuses_the_second_mail_and_is_given_back() -> None:
    budget = Budget(1500)
    first = ContentKeeper(b"", limit=1000, bare=BareNewlines.REFUSE, budgets=(budget,))
    second = ContentKeeper(b"", limit=1000, bare=BareNewlines.REFUSE, budgets=(budget,))

    first.keep(b"x" * 900)
    second.keep(b"x" * 900)

    assert (first.verdict, second.verdict) == (Verdict.FINE, Verdict.TOO_MUCH)
    assert budget.held == 900
    first.release()
    first.release()
    assert budget.held == 0


@given(contents, cuts)
def test_a_keeper_takes_pieces_that_end_anywhere(content: bytes, places: list[int]) -> None:
    for bare in BareNewlines:
        whole, cut = (ContentKeeper(PREFIX, limit=10_000, bare=bare) for _ in range(2))
        whole.keep(content)
        edges = [0, *sorted(place % (len(content) + 1) for place in places), len(content)]
        for start, end in pairwise(edges):
            cut.keep(content[start:end])
        whole.finish()
        cut.finish()

        assert cut.verdict is whole.verdict
        assert whole.verdict is not Verdict.FINE or cut.size == whole.size
        assert cut.take_content() == whole.take_content()


def test_a_cr_at_the_very_end_stands_alone() -> None:
    refusing, normalizing = (ContentKeeper(b"", limit=100, bare=bare) for bare in BareNewlines)
    for keeper in (refusing, normalizing):
        keeper.keep(b"text\r")
        assert keeper.verdict is Verdict.FINE
        keeper.finish()

    assert refusing.verdict is Verdict.ILLEGAL
    assert normalizing.take_content() == b"text\r\n"
