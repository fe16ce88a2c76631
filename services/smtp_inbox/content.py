"""DATA: where the content ends, and what it is without the dots that transparency added (RFC 5321 4.1.1.4, 4.5.2). No I/O.

Only ``CRLF . CRLF`` ends it. Every other sequence that some server somewhere takes for the end (``LF . LF``, ``CR . CR``,
``LF . CRLF`` …) is content: a server that disagreed with the next one about it would let a client smuggle a second mail in.
"""

import io
from dataclasses import dataclass
from enum import Enum

END = b"\r\n.\r\n"
STUFFED = b"\r\n."


class BareNewlines(Enum):
    """What becomes of a CR or LF that stands alone in the content."""

    REFUSE = "refuse"
    NORMALIZE = "normalize"


class Verdict(Enum):
    """What is wrong with content that was read to its end."""

    FINE = "fine"
    TOO_LARGE = "too large"
    TOO_MUCH = "too much at once"
    ILLEGAL = "illegal octet"
    """A NUL, or (unless normalized) a CR or LF alone."""


@dataclass(slots=True)
class Budget:
    """Octets of content that may be held in memory at once, shared by several connections."""

    limit: int
    held: int = 0


class ContentReader:
    """Takes DATA in whatever pieces the network delivers; holds no more than ``limit`` octets, whatever comes.

    Content that breaks a rule is read to its end all the same, and thrown away: the reply has its place after the end.
    """

    def __init__(self, prefix: bytes, *, limit: int, bare: BareNewlines, budgets: tuple[Budget, ...] = ()) -> None:
        """``prefix`` stands before the content in what ``take_content`` returns, and does not count towards ``limit``."""
        # BytesIO gives its buffer away without a copy: one mail in memory, not two.
        self._kept = io.BytesIO()
        self._kept.write(prefix)
        self._limit = limit
        self._bare = bare
        self._budgets = budgets
        self._charged = 0
        # The line that came before the content ended in CRLF: a dot in the first line is like any other.
        self._pending = b"\r\n"
        self._skip = 2
        self.size = 0
        """Octets so far, the added dots not counted."""
        self.received = 0
        """Octets that came from the network."""
        self.verdict = Verdict.FINE

    def feed(self, data: bytes) -> bytes | None:
        """Take what came. Returns None: there is more to come; else what stands behind the end of the content."""
        self.received += len(data)
        pending = self._pending + data
        end = pending.find(END)
        if end >= 0:
            self._keep(pending[: end + 2])
            self._pending = b""
            return pending[end + len(END) :]
        held = _begun_end(pending)
        self._keep(pending[: len(pending) - held])
        self._pending = pending[len(pending) - held :]
        return None

    def take_content(self) -> bytes:
        """The prefix and the content. Only once."""
        content = self._kept.getvalue()
        self._kept = io.BytesIO()
        return content

    def release(self) -> None:
        """Give back what the budgets counted. Safe to repeat."""
        for budget in self._budgets:
            budget.held -= self._charged
        self._charged = 0
        self._kept = io.BytesIO()

    def _keep(self, piece: bytes) -> None:
        """``piece`` neither starts nor ends inside of a CRLF or of a stuffed dot."""
        if self.verdict is not Verdict.FINE:
            return
        if STUFFED in piece:
            piece = piece.replace(STUFFED, b"\r\n")
        if self._skip and piece:
            piece, self._skip = piece[self._skip :], 0
        if b"\0" in piece:
            # RFC 5322 2.2, 6152 3: not allowed. A next hop that drops it could see the end of the content where there is none.
            self._give_up(Verdict.ILLEGAL)
            return
        pairs = piece.count(b"\r\n")
        if piece.count(b"\r") != pairs or piece.count(b"\n") != pairs:
            if self._bare is BareNewlines.REFUSE:
                self._give_up(Verdict.ILLEGAL)
                return
            piece = normalize_newlines(piece)
        self.size += len(piece)
        if self.size > self._limit:
            self._give_up(Verdict.TOO_LARGE)
        elif any(budget.held + len(piece) > budget.limit for budget in self._budgets):
            self._give_up(Verdict.TOO_MUCH)
        else:
            self._charge(len(piece))
            self._kept.write(piece)

    def _charge(self, octets: int) -> None:
        for budget in self._budgets:
            budget.held += octets
        self._charged += octets

    def _give_up(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.release()


def normalize_newlines(piece: bytes) -> bytes:
    """Every CR and LF that stands alone as CRLF."""
    return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def _begun_end(pending: bytes) -> int:
    """How many octets at the end of ``pending`` may be the beginning of CRLF.CRLF (or a CRLF that is not complete)."""
    for length in (4, 3, 2, 1):
        if pending.endswith(END[:length]):
            return length
    return 0
