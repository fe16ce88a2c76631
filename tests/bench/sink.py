"""The sink that all mail of the bench ends in: the scripted MX with a ledger of envelopes."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.listener import Listener
from tests.support.ledger import HEAD, MAGIC, Ledger, Mail

_READ = 1024 * 1024


class Sink(Listener):
    """One run of the sink with a ledger of its own; use as ``with``."""

    def __init__(self, folder: Path, *addresses: str, keeps_content: bool = False, behaviour: str = "") -> None:
        """``folder``: for the ledger. ``addresses``: host:port to listen on. ``keeps_content``: the ledger has the mails too.
        ``behaviour``: of every connection (tests.support.mx: ``--connection``)."""
        arguments = ["--ledger", str(folder), *([] if keeps_content else ["--no-content"])]
        arguments += ["--connection", behaviour] if behaviour else []
        super().__init__("tests.support.mx", arguments, addresses)
        self._folder = folder
        self._counter = RecordCounter(folder)

    def count(self) -> int:
        """Mails so far; cheap."""
        return self._counter.count()

    def read_mails(self) -> list[Mail]:
        """What arrived, mail by mail."""
        return Ledger(self._folder).mails()

    def read(self) -> "Arrived":
        """What arrived, looked at closely."""
        return summarize_mails(self.read_mails())


@dataclass(frozen=True, slots=True)
class Arrived:
    """What the ledger holds."""

    mails: int
    recipients: frozenset[str]
    surplus: int
    """Copies beyond the first, over all recipients; each recipient was sent one mail."""
    smallest: int
    """Octets of the smallest mail."""
    first: float
    """Unix seconds of the first arrival."""
    last: float
    """Of the last one."""

    def count_lost(self, messages: int, domain: str) -> int:
        """How many of ``messages`` mails, each to an address of its own in ``domain``, did not arrive."""
        return messages - sum(1 for recipient in self.recipients if recipient.endswith(f"@{domain}"))

    def count_strange(self, domain: str) -> int:
        """Addresses that nobody wrote to."""
        return sum(1 for recipient in self.recipients if not recipient.endswith(f"@{domain}"))


def summarize_mails(mails: Sequence[Mail]) -> Arrived:
    """Each recipient was sent one mail."""
    counts = Counter(mail.recipient for mail in mails)
    times = [mail.time.timestamp() for mail in mails]
    return Arrived(
        mails=len(mails),
        recipients=frozenset(counts),
        surplus=sum(counts.values()) - len(counts),
        smallest=min((mail.size for mail in mails), default=0),
        first=min(times, default=0.0),
        last=max(times, default=0.0),
    )


class RecordCounter:
    """Counts a ledger's records by their heads alone, going on where it stopped: reading them costs as much as a mail."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_until: dict[Path, int] = {}
        self._count = 0

    def count(self) -> int:
        """Whole records so far."""
        for path in self._folder.glob("*.ledger"):
            offset = self._read_until.get(path, 0)
            with path.open("rb") as file:
                for end in _record_ends(file.fileno(), offset):
                    self._read_until[path] = end
                    self._count += 1
        return self._count


def _record_ends(fd: int, offset: int) -> Iterator[int]:
    size = os.fstat(fd).st_size
    chunk, chunk_at = b"", offset
    while offset + HEAD.size <= size:
        if offset + HEAD.size > chunk_at + len(chunk):
            chunk, chunk_at = os.pread(fd, _READ, offset), offset
        magic, body, content = HEAD.unpack_from(chunk, offset - chunk_at)
        if magic != MAGIC:
            raise ValueError(f"at {offset}: not a ledger record")
        offset += HEAD.size + body + content
        if offset > size:
            return
        yield offset
