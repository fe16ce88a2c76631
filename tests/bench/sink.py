"""The sink that all mail of the bench ends in: the scripted MX with a ledger of envelopes."""

import os
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.stack.places import StackError
from tests.support.ledger import HEAD, MAGIC, Ledger

_READ = 1024 * 1024


class Sink:
    """One run of the sink with a ledger of its own; use as ``with``."""

    def __init__(self, folder: Path, address: str) -> None:
        """``folder``: for the ledger. ``address``: host:port to listen on."""
        self._folder = folder
        self._address = address
        self._counter = RecordCounter(folder)
        self._process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def __enter__(self) -> Self:
        argv = [
            sys.executable,
            "-m",
            "tests.support.mx",
            "--listen",
            self._address,
            "--ledger",
            str(self._folder),
            "--no-content",
        ]
        self._process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "--", *argv], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], 20)
        if not ready or "listening" not in self._process.stdout.readline():
            self.__exit__(None, None, None)
            raise StackError(f"the sink does not listen on {self._address}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def count(self) -> int:
        """Mails so far; cheap."""
        return self._counter.count()

    def read(self) -> "Arrived":
        """What arrived, looked at closely."""
        mails = Ledger(self._folder).mails()
        counts = Counter(mail.recipient for mail in mails)
        return Arrived(
            mails=len(mails),
            recipients=frozenset(counts),
            surplus=sum(counts.values()) - len(counts),
            smallest=min((mail.size for mail in mails), default=0),
            last=max((mail.time.timestamp() for mail in mails), default=0.0),
        )


@dataclass(frozen=True, slots=True)
class Arrived:
    """What the ledger holds."""

    mails: int
    recipients: frozenset[str]
    surplus: int
    """Copies beyond the first, over all recipients; each recipient was sent one mail."""
    smallest: int
    """Octets of the smallest mail."""
    last: float
    """Unix seconds of the last arrival."""

    def count_lost(self, messages: int, domain: str) -> int:
        """How many of ``messages`` mails, each to an address of its own in ``domain``, did not arrive."""
        return messages - sum(1 for recipient in self.recipients if recipient.endswith(f"@{domain}"))

    def count_strange(self, domain: str) -> int:
        """Addresses that nobody wrote to."""
        return sum(1 for recipient in self.recipients if not recipient.endswith(f"@{domain}"))


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
