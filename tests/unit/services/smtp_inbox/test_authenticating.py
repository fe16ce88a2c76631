"""What a client says in AUTH, read strictly."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.smtp_inbox.arguments import Refusal
from services.smtp_inbox.authenticating import decode, parse_plain


@given(st.binary())
def test_base64_has_one_form(octets: bytes) -> None:
    text = base64.b64encode(octets)
    assert decode(text) == octets
    for other in (text + b"=", text + b" ", text + b"\n", b" " + text, text.rstrip(b"=") if b"=" in text else text[:-1] + b"-"):
        if other != text and other:
            with pytest.raises(Refusal, match=r"^501 5\.5\.2"):
                decode(other)


@pytest.mark.parametrize("text", [b"=", b"A", b"AB", b"AB=", b"QR==", b"Q Q=", b"QQ==QQ==", b"*", b"\xff\xfe", b"-_-_"], ids=repr)
def test_not_base64(text: bytes) -> None:
    with pytest.raises(Refusal, match=r"^501 5\.5\.2 Not base64"):
        decode(text)


@pytest.mark.parametrize(
    ("response", "found"),
    [
        pytest.param(b"\0app\0secret", ("app", "secret"), id="no authzid"),
        pytest.param(b"app\0app\0secret", ("app", "secret"), id="the same authzid"),
        pytest.param("u\u0308\0\u00fc\0x".encode(), ("\u00fc", "x"), id="the same, prepared"),
        pytest.param(b"\0app\0", ("app", ""), id="no password"),
        pytest.param(b"\0\0x", ("", "x"), id="no name"),
    ],
)
def test_plain(response: bytes, found: tuple[str, str]) -> None:
    assert parse_plain(response) == found


@pytest.mark.parametrize(
    "response",
    [b"", b"app", b"app\0secret", b"\0app\0sec\0ret", b"admin\0app\0secret", b"\0app\0\xff", b"\0\xff\0x", b"\x01\0app\0x"],
    ids=repr,
)
def test_not_plain(response: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text goes nowhere
        parse_plain(response)
