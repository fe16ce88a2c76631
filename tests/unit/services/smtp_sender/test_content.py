"""The content of a mail, made ready for DATA."""

from typing import Any

import pytest

from services.smtp_sender.content import LARGE, Content, Preparer
from services.smtp_sender.signing import Signer
from shared.wire.instructions import parse_instructions
from shared.wire.message import Message


async def prepare(mime: bytes, *, takes_eight_bit: bool = True, **properties: Any) -> Content:
    instructions = parse_instructions(Message({"recipient": "a@b.example", "envelope": "r@a.example", **properties}))
    return await Preparer(Signer("", "me.example"), None).prepare(mime, instructions, takes_eight_bit=takes_eight_bit)


@pytest.mark.parametrize(
    ("mime", "stuffed"),
    [
        (b"Subject: x\r\n\r\nhello\r\n", b"Subject: x\r\n\r\nhello\r\n"),
        (b".\r\n..\r\n.x", b"..\r\n...\r\n..x"),
        (b"", b""),
        (b"no end", b"no end"),
        (b"Subject: x\r\n\r\n" + b".\r\n" * LARGE, b"Subject: x\r\n\r\n" + b"..\r\n" * LARGE),
    ],
    ids=["nothing to stuff", "dots", "empty", "no end", "in a thread"],
)
async def test_dots_are_stuffed_and_not_counted(mime: bytes, stuffed: bytes) -> None:
    content = await prepare(mime)
    assert (content.stuffed, content.size, content.is_eight_bit) == (stuffed, len(mime), False)


async def test_eight_bit() -> None:
    mime = "Subject: x\r\n\r\nmostly ASCII, é\r\n".encode()
    as_it_is = await prepare(mime)
    assert (as_it_is.is_eight_bit, as_it_is.stuffed) == (True, mime)
    recoded = await prepare(mime, takes_eight_bit=False)
    assert not recoded.is_eight_bit
    assert b"=C3=A9" in recoded.stuffed


async def test_signed_mail_is_not_recoded() -> None:
    mime = "DKIM-Signature: v=1\r\nSubject: x\r\n\r\né\r\n".encode()
    content = await prepare(mime, takes_eight_bit=False)
    assert (content.is_eight_bit, content.stuffed) == (True, mime)


async def test_extracted_is_of_the_mail_as_sent() -> None:
    mime = b"Subject: x\r\nFrom: A <a@b.example>\r\n\r\nhello"
    extracted = (await prepare(mime, headers={"replace": {"Subject": "y"}})).extracted
    assert (extracted["subject"], extracted["from"]) == ("y", "a@b.example")
