"""DATA: where the content ends, and what it is without the dots that transparency added (RFC 5321 4.1.1.4, 4.5.2). No I/O.

Only ``CRLF . CRLF`` ends it. Every other sequence that some server somewhere takes for the end (``LF . LF``, ``CR . CR``,
``LF . CRLF`` …) is content: a server that disagreed with the next one about it would let a client smuggle a second mail in.
"""

from services.smtp_inbox.keeping import ContentKeeper

END = b"\r\n.\r\n"
STUFFED = b"\r\n."


class ContentReader:
    """Takes DATA in whatever pieces the network delivers, and hands the content to a keeper."""

    def __init__(self, keeper: ContentKeeper) -> None:
        self.keeper = keeper
        # The line that came before the content ended in CRLF: a dot in the first line is like any other.
        self._pending = b"\r\n"
        self._skip = 2
        self.received = 0
        """Octets that came from the network."""

    def feed(self, data: bytes) -> bytes | None:
        """Take what came. Returns None: there is more to come; else what stands behind the end of the content."""
        self.received += len(data)
        pending = self._pending + data
        # Looked for once: most of what comes has no line that begins with a dot.
        dot = pending.find(STUFFED)
        end = pending.find(END, dot) if dot >= 0 else -1
        if end >= 0:
            self._keep(pending[: end + 2], is_stuffed=dot < end)
            self._pending = b""
            self.keeper.finish()
            return pending[end + len(END) :]
        whole = len(pending) - _begun_end(pending)
        self._keep(pending[:whole], is_stuffed=0 <= dot < whole)
        self._pending = pending[whole:]
        return None

    def _keep(self, piece: bytes, *, is_stuffed: bool) -> None:
        """``piece`` neither starts nor ends inside of a CRLF or of a stuffed dot. ``is_stuffed``: there may be such a dot in it."""
        if is_stuffed:
            piece = piece.replace(STUFFED, b"\r\n")
        if self._skip and piece:
            piece, self._skip = piece[self._skip :], 0
        self.keeper.keep(piece)


def _begun_end(pending: bytes) -> int:
    """How many octets at the end of ``pending`` may be the beginning of CRLF.CRLF (or a CRLF that is not complete)."""
    for length in (4, 3, 2, 1):
        if pending.endswith(END[:length]):
            return length
    return 0
