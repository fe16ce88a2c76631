"""What is kept of the content of a mail while it comes in: checked and bounded, whichever command brings it.

DATA feeds it through ``content.ContentReader``, BDAT (RFC 3030) feeds it directly. Small content stays in memory. Large content goes
on to the message store as it comes; of it only the header section stays.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from shared.acceptance import Streamed
from shared.mail.content import has_bare_newlines
from shared.mail.fields import MAX_LINE, find_section
from shared.storage.payloads import StoreFull, Upload
from shared.trouble import Unavailable
from shared.wire.mq_headers import strip_mq_headers

STREAMED = 1024 * 1024
"""Octets of content above which it goes to the message store as it comes, and octets of a header section at most from there on."""
BEGINNING = 64 * 1024
"""Octets behind the header section that stay in memory even so: they tell what kind of mail it is."""
EMPTY_LINE = b"\r\n\r\n"


class BareNewlines(Enum):
    """What becomes of a CR or LF that stands alone in the content."""

    REFUSE = "refuse"
    NORMALIZE = "normalize"


class Verdict(Enum):
    """What is wrong with content that was read to its end."""

    FINE = "fine"
    TOO_LARGE = "too large"
    TOO_MUCH = "too much at once"
    HEADER_TOO_LARGE = "header too large"
    ILLEGAL = "illegal octet"
    """A NUL, or (unless normalized) a CR or LF alone."""
    NO_ROOM = "no room"
    """The disk is full."""
    OUR_TROUBLE = "our trouble"
    """The message store cannot be written to."""


@dataclass(slots=True)
class Budget:
    """Octets of content that may be held at once, shared by several connections."""

    limit: int
    held: int = 0


@dataclass(frozen=True, slots=True)
class Streaming:
    """Where large content goes as it comes."""

    begin: Callable[[], Upload]
    budget: Budget
    """What all uploads under way may hold on the disk."""
    threshold: int = STREAMED
    """Octets that are kept in memory before that."""


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of content: offsets into it."""

    end: int
    """Behind the header section, and behind the empty line that ends it when there is one."""
    lines: int
    """Behind the lines that may be taken for header fields: more when a line that is none ends the section."""


class ContentKeeper:
    """Takes content in pieces that may end anywhere; holds no more than ``limit`` octets, whatever comes.

    Content that breaks a rule is thrown away, and so is all that comes after it: the reply has its place after the end.
    """

    def __init__(
        self,
        prefix: bytes,
        *,
        limit: int,
        bare: BareNewlines,
        budgets: tuple[Budget, ...] = (),
        streaming: Streaming | None = None,
        sample: int = 0,
    ) -> None:
        """``prefix`` (whole header fields) stands before the content in what ``take_content`` returns, and counts towards nothing.

        ``budgets``: of memory. ``streaming`` None: everything stays in memory. ``sample``: octets to keep of content
        that is thrown away.
        """
        # BytesIO gives its buffer away without a copy: one mail in memory, not two.
        self._kept = io.BytesIO()
        self._kept.write(prefix)
        self._prefix = len(prefix)
        self._limit = limit
        self._bare = bare
        self._budgets = budgets
        self._charged = 0
        self._ends_in_cr = False
        self._streaming = streaming
        self._stream: _Stream | None = None
        self.size = 0
        """Octets so far, the prefix not counted."""
        self.verdict = Verdict.FINE
        self._sample = sample
        self.sample = b""
        """The beginning of content that was thrown away, with the prefix."""
        self.thrown = 0
        """Octets of it that are not in the sample, at least."""
        self.trouble = ""
        """What the message store said, for our log, when it is the reason of the verdict."""

    def keep(self, piece: bytes) -> None:
        """Take the next octets of the content."""
        if self.verdict is not Verdict.FINE:
            self.thrown += len(piece)
            return
        if self._ends_in_cr:
            piece, self._ends_in_cr = b"\r" + piece, False
        if piece.endswith(b"\r"):
            # Whether it stands alone shows in the next piece, or in ``finish``.
            piece, self._ends_in_cr = piece[:-1], True
        self._check(piece)

    def finish(self) -> None:
        """There is no more content."""
        if self._ends_in_cr and self.verdict is Verdict.FINE:
            self._ends_in_cr = False
            self._check(b"\r")

    def take_content(self) -> bytes | Streamed:
        """The prefix and the content. Only once, after ``finish``."""
        if self._stream is not None:
            return self._stream.take()
        content = self._kept.getvalue()
        self._kept = io.BytesIO()
        return content

    def compute_digest(self, content: bytes | Streamed) -> str:
        """The SHA-256 of what ``take_content`` gave, without the prefix: the content as the client sent it."""
        if isinstance(content, Streamed):
            return self._stream.digest() if self._stream is not None else ""
        return hashlib.sha256(memoryview(content)[self._prefix :]).hexdigest()

    def release(self) -> None:
        """Give back what the budgets counted, forget an upload that was not committed. Safe to repeat."""
        self._charge(-self._charged)
        self._kept = io.BytesIO()
        if self._stream is not None:
            self._stream.release()

    def _check(self, piece: bytes) -> None:
        if b"\0" in piece:
            # RFC 5322 2.2, 6152 3: not allowed. A next hop that drops it could see the end of the content where there is none.
            self._give_up(Verdict.ILLEGAL, piece)
            return
        if has_bare_newlines(piece):
            if self._bare is BareNewlines.REFUSE:
                self._give_up(Verdict.ILLEGAL, piece)
                return
            piece = normalize_newlines(piece)
        self.size += len(piece)
        if self.size > self._limit:
            self._give_up(Verdict.TOO_LARGE, piece)
            return
        try:
            self._hold(piece)
        except _Refused as refused:
            self._give_up(refused.verdict)
        except Unavailable as error:
            self.trouble = str(error)
            self._give_up(Verdict.NO_ROOM if isinstance(error, StoreFull) else Verdict.OUR_TROUBLE)

    def _hold(self, piece: bytes) -> None:
        if self._stream is not None:
            self._stream.write(piece)
            return
        self._kept.write(piece)
        if not self._fits(len(piece)):
            # Memory is short: small content goes to the disk, too, as soon as its header section is there.
            self._begin_stream(Verdict.TOO_MUCH)
            return
        self._charge(len(piece))
        if self._streaming is not None and self.size > self._streaming.threshold:
            self._begin_stream(Verdict.HEADER_TOO_LARGE)

    def _begin_stream(self, otherwise: Verdict) -> None:
        """From memory to the store: all but the header section."""
        content = self._kept.getvalue()
        head = find_head(content)
        # A limit of its own, so that it does not matter how the content was cut into pieces.
        if self._streaming is None or head is None or head.end - self._prefix > self._streaming.threshold:
            raise _Refused(otherwise)
        more = head.end - self._charged
        if more > 0 and not self._fits(more):
            raise _Refused(Verdict.TOO_MUCH)
        self._kept = io.BytesIO()
        self._charge(more)
        self._stream = _Stream(content, head, self._prefix, self._streaming)

    def _fits(self, octets: int) -> bool:
        return all(budget.held + octets <= budget.limit for budget in self._budgets)

    def _charge(self, octets: int) -> None:
        for budget in self._budgets:
            budget.held += octets
        self._charged += octets

    def _give_up(self, verdict: Verdict, piece: bytes = b"") -> None:
        self.verdict = verdict
        if self._sample:
            if self._stream is not None:
                self.sample = self._stream.sample[: self._sample]
            else:
                self.sample = (bytes(self._kept.getbuffer()[: self._sample]) + piece[: self._sample])[: self._sample]
            uncounted = len(piece) if verdict is Verdict.ILLEGAL else 0
            self.thrown = self._prefix + self.size + uncounted - len(self.sample)
        self.release()


class _Refused(Exception):
    """Carries a verdict from where it is found to where it is kept."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.value)
        self.verdict = verdict


class _Stream:
    """Content on its way to the store, and what must be known of it at its end."""

    def __init__(self, content: bytes, head: Head, prefix: int, streaming: Streaming) -> None:
        """``content``: what there is so far. Raises _Refused or Unavailable."""
        self._head = content[: head.end]
        self._beginning = content[head.end : head.end + BEGINNING]
        self._budget = streaming.budget
        self._charged = 0
        self._size = 0
        self._as_kept = hashlib.sha256()
        self._as_sent = hashlib.sha256(memoryview(content)[prefix:])
        self._upload = streaming.begin()
        try:
            self._put(strip_mq_headers(content[: head.lines]))
            self._put(memoryview(content)[head.lines :])
        except BaseException:
            self.release()
            raise

    def write(self, piece: bytes | memoryview) -> None:
        """Further content. Raises _Refused or Unavailable."""
        self._put(piece)
        self._as_sent.update(piece)
        if len(self._beginning) < BEGINNING:
            self._beginning += piece[: BEGINNING - len(self._beginning)]

    def take(self) -> Streamed:
        """What there is now."""
        return Streamed(self._head, self._size, self._as_kept.hexdigest(), self._upload, self._beginning)

    def digest(self) -> str:
        """SHA-256 of the content as it came."""
        return self._as_sent.hexdigest()

    @property
    def sample(self) -> bytes:
        """The first octets."""
        return self._head + self._beginning

    def release(self) -> None:
        """Give back, and forget."""
        self._budget.held -= self._charged
        self._charged = 0
        self._upload.discard()

    def _put(self, piece: bytes | memoryview) -> None:
        if self._budget.held + len(piece) > self._budget.limit:
            raise _Refused(Verdict.TOO_MUCH)
        self._budget.held += len(piece)
        self._charged += len(piece)
        self._upload.write(piece)
        self._as_kept.update(piece)
        self._size += len(piece)


def find_head(content: bytes) -> Head | None:
    """Where the header section ends, when ``content`` shows it; None when it may go on behind it.

    Headers in it may have to go, so it must be known as a whole before its first octet is written anywhere.
    """
    end = content.find(EMPTY_LINE)
    if end >= 0:
        return Head(end + len(EMPTY_LINE), end + len(EMPTY_LINE))
    # A line that is no header field ends the section, too; the last line may become one yet.
    end = find_section(content).end
    if end == len(content) or (b"\n" not in content[end:] and len(content) - end <= MAX_LINE):
        return None
    return Head(end, max(end, content.rfind(b"\n") + 1))


def normalize_newlines(piece: bytes) -> bytes:
    """Every CR and LF that stands alone as CRLF."""
    return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
