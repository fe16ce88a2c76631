"""The content of a mail, made ready for DATA."""

import pytest

from services.smtp_sender.content import prepare


@pytest.mark.parametrize(
    ("mime", "stuffed"),
    [
        (b"Subject: x\r\n\r\nhello\r\n", b"Subject: x\r\n\r\nhello\r\n"),
        (b".\r\n..\r\n.x", b"..\r\n...\r\n..x"),
        (b"", b""),
        (b"no end", b"no end"),
    ],
)
def test_dots_are_stuffed_and_not_counted(mime: bytes, stuffed: bytes) -> None:
    content = prepare(mime)
    assert (content.stuffed, content.size, content.is_eight_bit) == (stuffed, len(mime), False)


def test_eight_bit() -> None:
    assert prepare("é".encode()).is_eight_bit


def test_extracted() -> None:
    extracted = prepare(b"Subject: x\r\nFrom: A <a@b.example>\r\n\r\nhello").extracted
    assert (extracted["subject"], extracted["from"]) == ("x", "a@b.example")
