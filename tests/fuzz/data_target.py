"""DATA: where it ends, and what of it is kept, however the network cuts it. Compared with a slow and simple reading."""

from services.smtp_inbox.content import ContentReader
from tests.fuzz.streams import check_kept, open_keeper, split_input

SEEDS = [
    b"\0\x00\x00\x00Subject: x\r\n\r\ntext\r\n.\r\nNOOP\r\n",
    b"\1\x03\x05\x07Subject: x\r\n\r\n..stuffed\r\n...\r\n.\r\n.\r\n",
    b"\0\x01\x01\x01.\r\n",
    b"\2\x09\x02\x0aX-MQ-Tag: a\r\nSubject: x\r\nX-MQ-Tag:\r\n b\r\n\r\n" + b"a line of text\r\n" * 20 + b".\r\nQUIT\r\n",
    b"\3\x1e\x01\x27" + b"A: b\r\n" * 30 + b"no header\r\nX-MQ-Tag: x\r\n.\r\n",
    b"\2\xff\xff\x09\x02\r\nX-MQ-Tag: a\r\n of " + b"D" * 60 + b"\r\na line of text\r\n.\r\nQUIT\r\n",
    b"\0\x02\x02\x02text\n.\nMAIL\r.\rx\n.\r\nx\r\n.\nx\r\n.\rx\r.\r\nx\r\n\0.\r\nx\r\n.\r\n",
]
WORDS = [
    b"\r\n",
    b"\r",
    b"\n",
    b".",
    b"\0",
    b"\r\n.\r\n",
    b"\r\n.",
    b"\n.\n",
    b"\r.\r",
    b"X-MQ-Tag: a\r\n",
    b" ",
    b"Subject: ",
    b"\r\n\r\n",
]


def run(data: bytes) -> None:
    """Raises when something is found."""
    given = split_input(data)
    keeper, upload = open_keeper(given)
    reader = ContentReader(keeper)
    rest, fed = None, 0
    for piece in given.pieces:
        fed += len(piece)
        rest = reader.feed(piece)
        if rest is not None:
            break
    end = (b"\r\n" + given.stream).find(b"\r\n.\r\n")
    if end < 0:
        assert rest is None
        return
    # The stream ends there, and nowhere else: what is behind is the next command.
    assert rest is not None
    assert rest + given.stream[fed:] == given.stream[end + 3 :]
    lines = (b"\r\n" + given.stream)[: end + 2].split(b"\r\n")[1:]
    check_kept(keeper, upload, b"\r\n".join(line.removeprefix(b".") for line in lines), given.bare)
    keeper.release()
