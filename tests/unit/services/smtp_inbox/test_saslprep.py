"""The form in which names and passwords are compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.smtp_inbox.saslprep import prepare


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        pytest.param("user", "user", id="ascii"),
        pytest.param("USER", "USER", id="case stays"),
        pytest.param("I\u00adX", "IX", id="soft hyphen"),  # RFC 4013 3
        pytest.param("\u00aa", "a", id="feminine ordinal"),
        pytest.param("\u2168", "IX", id="roman number"),
        pytest.param("u\u0308", "\u00fc", id="composed"),
        pytest.param("a\u00a0b", "a b", id="space"),
        pytest.param("\U0001f511", "\U0001f511", id="younger than Unicode 3.2"),
        pytest.param("\u05d0\u05d1", "\u05d0\u05d1", id="right to left"),
    ],
)
def test_prepared(text: str, prepared: str) -> None:
    assert prepare(text) == prepared


@pytest.mark.parametrize(
    "text",
    ["", "\u00ad", "a\x00b", "a\tb", "\x7f", "\u0007", "\ufffd", "\ue000", "\u05d0a", "\u06271"],
    ids=lambda text: ascii(text),
)
def test_what_has_no_such_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"empty|not allowed|mixed"):
        prepare(text)


@given(st.text())
def test_what_is_prepared_stays_as_it_is(text: str) -> None:
    try:
        once = prepare(text)
    except ValueError:
        return
    assert prepare(once) == once
