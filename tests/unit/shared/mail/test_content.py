"""Line ends and dots: what DATA does to content, and that clean content is not even copied."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.content import end_of_data, has_bare_newlines, is_seven_bit, normalise_newlines, stuff_dots, unstuff_dots


@pytest.mark.parametrize(
    ("content", "normal"),
    [
        (b"", b""),
        (b"a", b"a"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\rb\r", b"a\r\nb\r\n"),
        (b"a\r\r\nb", b"a\r\n\r\nb"),
        (b"a\n\rb", b"a\r\n\r\nb"),
        (b"a\r\n\nb", b"a\r\n\r\nb"),
        (b"\n.\n", b"\r\n.\r\n"),
        (b"\r.\r", b"\r\n.\r\n"),
    ],
)
def test_newlines(content: bytes, normal: bytes) -> None:
    assert normalise_newlines(content) == normal
    assert has_bare_newlines(content) == (content != normal)


@pytest.mark.parametrize(
    ("content", "stuffed"),
    [
        (b"", b""),
        (b".", b".."),
        (b".\r\n", b"..\r\n"),
        (b"a\r\n.\r\n", b"a\r\n..\r\n"),
        (b"a\r\n..b", b"a\r\n...b"),
        (b"\r\n.\r\n.\r\n", b"\r\n..\r\n..\r\n"),
        (b"a.b\r\nc.", b"a.b\r\nc."),
    ],
)
def test_dots(content: bytes, stuffed: bytes) -> None:
    assert stuff_dots(content) == stuffed
    assert unstuff_dots(stuffed) == content


def test_clean_content_is_the_same_object() -> None:
    content = b"Subject: a\r\n\r\nb.\r\n" * 10
    assert normalise_newlines(content) is content
    assert stuff_dots(content) is content
    assert unstuff_dots(content) is content


@pytest.mark.parametrize(
    ("content", "end"), [(b"", b".\r\n"), (b"a\r\n", b".\r\n"), (b"a", b"\r\n.\r\n"), (b"a\r", b"\r\n.\r\n")]
)
def test_the_end_of_data(content: bytes, end: bytes) -> None:
    assert end_of_data(content) == end


def test_seven_bit() -> None:
    assert is_seven_bit(b"a\x7f\0")
    assert not is_seven_bit(b"a\x80")


PIECES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b"\x80"]), max_size=12).map(b"".join)


@given(PIECES)
@settings(max_examples=400, deadline=None)
def test_no_content_can_end_data_before_its_end(content: bytes) -> None:
    normal = normalise_newlines(content)
    assert not has_bare_newlines(normal)
    assert normalise_newlines(normal) is normal
    stuffed = stuff_dots(normal)
    wire = b"\r\n" + stuffed + end_of_data(stuffed)
    assert wire.find(b"\r\n.\r\n") == len(wire) - 5
    assert unstuff_dots(stuffed) == normal
    assert normal.replace(b"\r\n", b"") == content.replace(b"\r", b"").replace(b"\n", b"")
