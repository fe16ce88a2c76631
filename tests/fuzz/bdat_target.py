"""BDAT: chunks of any size, cut anywhere: the content is what they hold, what is behind is not touched."""

from services.smtp_inbox.arguments import Refusal, parse_chunk
from services.smtp_inbox.chunking import ChunkReader
from tests.fuzz.streams import check_kept, open_keeper, split_input

SEEDS = [
    b"\0\x00\x00\x0011 LAST\r\ntext\r\n.\r\nxyNOOP\r\n",
    b"\1\x03\x05\x073\r\nabc0\r\n4 last\r\nde\r\nQUIT\r\n",
    b"\2\x01\x01\x0118\r\nSubject: x\r\nX-MQ-\r\n99 LAST\r\nTag: a\r\n\r\n" + b"a line\r\n" * 20,
    b"\1\x04\x02\x013\r\na\r\n3\r\nb\rc4 LAST\r\n\nd\r\n",
]
WORDS = [
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b" LAST",
    b" last",
    b"0\r\n",
    b"1\r\n",
    b"4 LAST\r\n",
    b"99999999999999999999",
    b"X-MQ-A: b\r\n",
]


def run(data: bytes) -> None:
    """Raises when something is found."""
    given = split_input(data)
    keeper, upload = open_keeper(given)
    reader = ChunkReader(keeper)
    content, stream = b"", given.stream
    while True:
        line, found, behind = stream.partition(b"\r\n")
        try:
            chunk = parse_chunk(line.decode("latin-1"))
        except Refusal:
            return
        assert line.split()[0].isdigit()
        if not found:
            return
        reader.left = chunk.size
        expected, stream = behind[: chunk.size], behind[chunk.size :]
        if chunk.size and _feed(reader, behind, given.pieces) != (stream if len(expected) == chunk.size else None):
            raise AssertionError("the chunk does not end where it says")
        content += expected
        if len(expected) < chunk.size:
            return
        if chunk.is_last:
            keeper.finish()
            check_kept(keeper, upload, content, given.bare)
            keeper.release()
            return


def _feed(reader: ChunkReader, octets: bytes, pieces: list[bytes]) -> bytes | None:
    """In pieces as long as those of the input; what stands behind the chunk."""
    place = 0
    for size in map(len, pieces):
        rest = reader.feed(octets[place : place + size])
        place += size
        if rest is not None:
            return rest + octets[place:]
    return None
