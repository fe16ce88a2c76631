"""Mails that a server delivered into maildirs, and the bytes that the client had sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import until

_TRACE = (b"return-path", b"x-original-to", b"delivered-to", b"received", b"envelope-to", b"delivery-date")
_FIELD = re.compile(rb"[^\n]*\n(?:[ \t][^\n]*\n)*")


@dataclass(frozen=True, slots=True)
class Delivered:
    """One mail as the server stored it."""

    trace: bytes
    """The fields that the server put on top."""
    content: bytes
    """What came by DATA, with CRLF line ends."""

    def field(self, name: str) -> str:
        """The first trace field of this name, unfolded; "" when there is none."""
        found = re.search(rb"^%s:(.*(?:\n[ \t].*)*)" % re.escape(name.encode()), self.trace, re.MULTILINE | re.IGNORECASE)
        return " ".join(found[1].decode().split()) if found else ""


def parse_delivered(stored: bytes) -> Delivered:
    """Part the server's own fields from what was sent. The content must not begin with such a field itself."""
    end = 0
    while (found := _FIELD.match(stored, end)) and found[0].partition(b":")[0].lower() in _TRACE:
        end = found.end()
    return Delivered(stored[:end], stored[end:].replace(b"\n", b"\r\n"))


class Maildirs:
    """Reads every maildir below a folder."""

    def __init__(self, folder: Path) -> None:
        """``folder`` need not exist yet."""
        self._folder = folder

    def mails(self) -> list[Delivered]:
        """All mails, in no special order."""
        return [parse_delivered(path.read_bytes()) for path in self._folder.rglob("new/*")]

    def find(self, marker: str) -> list[Delivered]:
        """Those whose content has ``marker`` in it."""
        return [mail for mail in self.mails() if marker.encode() in mail.content]

    async def wait_for(self, marker: str, count: int = 1) -> list[Delivered]:
        """Those with ``marker``, once there are ``count``. Raises NotInTime."""

        def found() -> list[Delivered]:
            mails = self.find(marker)
            return mails if len(mails) >= count else []

        return await until(found, within=15, every=0.05, what=f"{count} mails with {marker!r} to be delivered")
