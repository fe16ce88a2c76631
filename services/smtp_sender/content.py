"""The content of a mail, made ready for DATA: header edits → 7 bits where the peer needs them → signatures → transparency."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from services.smtp_sender.route import Resolver
from services.smtp_sender.session import Ending
from services.smtp_sender.signing import Signer
from shared.mail.content import is_seven_bit, stuff_dots
from shared.mail.downgrade import downgrade
from shared.mail.edits import apply_edits
from shared.mail.headers import parse_extract
from shared.wire.instructions import Instructions
from shared.wire.result import Result

LARGE = 256 * 1024
"""Octets from which the work is done in a thread: hashing and copying must not hold up the other sessions."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Content:
    """What goes over the wire after 354."""

    stuffed: bytes
    """CRLF lines, dot-stuffed (RFC 5321 4.5.2), without the final dot."""
    size: int
    """Bytes before dot-stuffing (RFC 1870)."""
    is_eight_bit: bool
    extracted: Mapping[str, Any]


class NotReady(Exception):
    """The content cannot be made ready now; how the attempt ends."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.text)
        self.ending = ending


class Preparer:
    """Makes contents ready. One per process."""

    def __init__(self, signer: Signer, resolver: Resolver | None) -> None:
        """``resolver`` finds the public keys of a chain that is to be sealed; None: there is none to ask (a sink)."""
        self._signer = signer
        self._resolver = resolver

    async def prepare(self, mime: bytes, instructions: Instructions, *, takes_eight_bit: bool) -> Content:
        """Make ``mime`` (CRLF line ends) ready for a peer that does or does not offer 8BITMIME.

        What cannot be made 7-bit stays as it is: ``is_eight_bit`` tells, and the session refuses to send it.
        Raises NotReady when a chain is to be sealed and a key of it cannot be had, Unavailable when no resolver answers at all.
        """
        edited = await _away(len(mime), lambda: _edit(mime, instructions, takes_eight_bit=takes_eight_bit))
        extracted = parse_extract(edited)
        signed = await self._signer.sign_and_seal(
            edited,
            author_domain=extracted["from"].rpartition("@")[2],
            reverse_path_domain=instructions.reverse_path.domain if instructions.reverse_path else None,
            requests=instructions.signing,
            now=datetime.now(UTC),
            fetch_txt=self._fetch_txt,
        )
        if signed is not edited:
            extracted = parse_extract(signed)
        return await _away(len(signed), lambda: Content(stuff_dots(signed), len(signed), not is_seven_bit(signed), extracted))

    async def _fetch_txt(self, name: str) -> bytes | None:
        found = await self._resolver.find_texts(name) if self._resolver is not None else ()
        if isinstance(found, Ending):
            if found.result is Result.ERROR:
                return None
            raise NotReady(found)
        return found[0] if found else None


def _edit(mime: bytes, instructions: Instructions, *, takes_eight_bit: bool) -> bytes:
    content = mime if instructions.edits is None else apply_edits(mime, instructions.edits)
    if takes_eight_bit or is_seven_bit(content):
        return content
    # Before signing: a signature would not survive it.
    return downgrade(content) or content


async def _away(size: int, work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work) if size >= LARGE else work()
