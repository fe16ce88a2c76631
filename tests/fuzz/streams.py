"""What the targets of content share: where an input is cut, an upload that remembers, and the slow reading to compare with."""

from dataclasses import dataclass
from itertools import pairwise

from services.smtp_inbox.keeping import BareNewlines, Budget, ContentKeeper, Streaming, Verdict
from shared.acceptance import Streamed
from shared.mail.fields import find_section
from shared.wire.mq_headers import strip_mq_headers

PREFIX = b"Received: from us\r\n"
LIMIT = 100_000
"""Octets: more than an input has, so that no limit is reached but on purpose."""


class Kept:
    """An upload in memory."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, piece: bytes | memoryview) -> None:
        """Take further octets."""
        self.content += piece

    async def read(self) -> bytes:
        """All of them."""
        return self.content

    async def commit(self, key: str) -> None:
        """Nothing is committed here."""

    def discard(self) -> None:
        """Forget them."""


@dataclass(frozen=True, slots=True)
class Input:
    """The stream of a client, and how the network cut it."""

    stream: bytes
    pieces: list[bytes]
    bare: BareNewlines
    threshold: int
    """Octets from which content is streamed."""


def split_input(data: bytes) -> Input:
    """The first octet chooses, the next three say where the rest is cut, again and again."""
    choice, cuts, stream = data[:1] or b"\0", data[1:4], data[4:]
    steps = [octet % 40 + 1 for octet in cuts] or [1000]
    edges, place = [0], 0
    while place < len(stream):
        place = min(len(stream), place + steps[len(edges) % len(steps)])
        edges.append(place)
    return Input(
        stream,
        [stream[start:end] for start, end in pairwise(edges)],
        BareNewlines.REFUSE if choice[0] & 1 else BareNewlines.NORMALIZE,
        64 if choice[0] & 2 else LIMIT,
    )


def open_keeper(given: Input) -> tuple[ContentKeeper, Kept]:
    """As the process opens it, but for the numbers."""
    upload = Kept()
    streaming = Streaming(lambda: upload, Budget(LIMIT * 2), threshold=given.threshold)
    return ContentKeeper(PREFIX, limit=LIMIT, bare=given.bare, streaming=streaming), upload


def normalize_slowly(content: bytes) -> bytes:
    """Octet by octet: a CR or LF alone becomes CRLF."""
    out, place = bytearray(), 0
    while place < len(content):
        if content[place : place + 2] == b"\r\n":
            out += b"\r\n"
            place += 2
        else:
            out += b"\r\n" if content[place] in b"\r\n" else content[place : place + 1]
            place += 1
    return bytes(out)


def check_kept(keeper: ContentKeeper, upload: Kept, sent: bytes, bare: BareNewlines) -> None:
    """What a finished keeper has is what ``sent`` (without the dots of transparency) must become."""
    expected = normalize_slowly(sent)
    if keeper.verdict is Verdict.FINE:
        assert b"\0" not in sent
        assert bare is BareNewlines.NORMALIZE or expected == sent
        content = keeper.take_content()
        assert keeper.size == len(expected)
        if isinstance(content, Streamed):
            whole = PREFIX + expected
            if whole[find_section(whole).end :].startswith(b"\r\n"):
                assert upload.content == strip_mq_headers(whole)
            else:
                # A line that is no header ends the section; of those behind it that say X-MQ, as many go as are still in memory.
                lines = iter(whole.split(b"\r\n"))
                assert all(line in lines for line in upload.content.split(b"\r\n"))
            assert whole.startswith(content.head)
            assert content.size == len(upload.content)
        else:
            assert content == PREFIX + expected
        return
    if keeper.verdict is Verdict.ILLEGAL:
        assert b"\0" in sent or (bare is BareNewlines.REFUSE and expected != sent)
    else:
        assert keeper.verdict is Verdict.HEADER_TOO_LARGE
        assert len(expected) > 64
