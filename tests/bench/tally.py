"""What a ledger holds of numbered mails, read record by record: of a million of mails it keeps a double each."""

import os
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.support.ledger import HEAD, MAGIC


@dataclass(frozen=True, slots=True)
class Tally:
    """Mails 1 to n, each to ``r<number>@domain``."""

    arrivals: Sequence[float]
    """Unix seconds by number from 0, of the first copy; 0.0: it did not arrive."""
    surplus: int
    """Copies beyond the first."""
    strange: int
    """Mails that nobody sent."""
    smallest: int
    """Octets of the smallest mail."""

    def find_faults(self, octets: int) -> list[str]:
        """What is wrong, a sentence each. ``octets``: the least that a mail has."""
        found = {
            "mails lost": self.arrivals.count(0.0),
            "mails doubled": self.surplus,
            "mails that nobody sent": self.strange,
        }
        told = [f"{count} {what}" for what, count in found.items() if count]
        return [*told, *([f"a mail of {self.smallest} octets"] if self.smallest < octets else [])]


def read_tally(folder: Path, domain: str, messages: int) -> Tally:
    """Of the ledger in ``folder``. Raises ValueError when it is none."""
    recipient = re.compile(rf"r([0-9]{{7}})@{re.escape(domain)}")
    arrivals = array("d", bytes(8 * messages))
    surplus = strange = 0
    smallest: int | None = None
    for record in _read_records(folder):
        smallest = record["size"] if smallest is None else min(smallest, record["size"])
        for address, _ in record["recipients"]:
            match = recipient.fullmatch(address)
            number = int(match[1]) if match else 0
            if not 1 <= number <= messages:
                strange += 1
            elif arrivals[number - 1]:
                surplus += 1
            else:
                arrivals[number - 1] = record["time"]
    return Tally(arrivals, surplus, strange, smallest or 0)


def _read_records(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.ledger")):
        with path.open("rb") as file:
            size, offset = os.fstat(file.fileno()).st_size, 0
            while len(head := file.read(HEAD.size)) == HEAD.size:
                magic, body, content = HEAD.unpack(head)
                if magic != MAGIC:
                    raise ValueError(f"{path} at {offset}: not a ledger record")
                offset += HEAD.size + body + content
                if offset > size:
                    break  # being written, or cut off by a kill: not acknowledged
                yield orjson.loads(file.read(body))
                file.seek(content, os.SEEK_CUR)
