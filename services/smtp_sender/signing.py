"""Signs mail on its way out: which keys for which mail, the keys of the settings kept fresh, DKIM first and ARC over it."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from services.smtp_sender.signing_file import SigningFile, load_signing_file, read_stamp
from shared.log import get_logger
from shared.mail.address import InvalidAddress, domain_to_ascii
from shared.mail.arc import ChainStatus, find_results, read_chain, seal
from shared.mail.arc_chain import FetchTxt, fetch_records, verify_chain
from shared.mail.canonical import SplitContent
from shared.mail.dkim import sign
from shared.mail.signing import Protocol, SigningRequest
from shared.trouble import BadSetting

log = get_logger()

LOOK_INTERVAL = 10.0
"""Seconds between two looks at the file of the keys."""
BIG = 256 * 1024
"""Octets from which on a mail is hashed in a thread: the loop is held up for 2 ms at most, a mail of 20 MB takes 0.1 s."""

T = TypeVar("T")


class Signer:
    """Signs. One per process."""

    def __init__(self, keys: str, authserv_id: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``keys``: the file of the setting ``dkim-keys``, "" = none; ``authserv_id``: our name in Authentication-Results (RFC 8601 2.5).

        Raises BadSetting when the file cannot be used.
        """
        self._path = Path(keys) if keys else None
        self._authserv_id = authserv_id
        self._clock = clock
        self._looked_at = clock()
        self._file = load_signing_file(self._path) if self._path else SigningFile({}, ())
        self._told = ""
        """What was wrong with the file at the last look."""

    def choose(
        self, *, author_domain: str | None, reverse_path_domain: str | None, requests: Sequence[SigningRequest]
    ) -> tuple[SigningRequest, ...]:
        """The keys for one mail: the message's own first, then those of the settings for another (domain, selector).

        Of the settings: all keys of the author's domain, else of its nearest parent domain; else the same for the reverse-path.
        """
        self._refresh()
        if not self._file.by_domain:
            return tuple(requests)
        ours = _find(self._file.by_domain, author_domain) or _find(self._file.by_domain, reverse_path_domain)
        named = {(request.domain, request.selector.lower()) for request in requests}
        return (*requests, *(one for one in ours if (one.domain, one.selector.lower()) not in named))

    def sign(
        self,
        content: bytes,
        *,
        author_domain: str | None,
        reverse_path_domain: str | None,
        requests: Sequence[SigningRequest],
        now: datetime,
    ) -> bytes:
        """``content`` (CRLF line ends) with its DKIM signatures on top; the same object when there are none. No ARC."""
        chosen = self.choose(author_domain=author_domain, reverse_path_domain=reverse_path_domain, requests=requests)
        return sign(content, chosen, now=now)

    async def sign_and_seal(
        self,
        content: bytes,
        *,
        author_domain: str | None,
        reverse_path_domain: str | None,
        requests: Sequence[SigningRequest],
        now: datetime,
        fetch_txt: FetchTxt,
    ) -> bytes:
        """``content`` with its DKIM signatures, and over them one ARC set by the first key with the protocol ``arc``; big mail in a thread.

        ``fetch_txt`` is asked only when there is such a key and the mail has a chain; what it raises propagates.
        """
        chosen = self.choose(author_domain=author_domain, reverse_path_domain=reverse_path_domain, requests=requests)
        if not chosen:
            return content
        signed = await _away(len(content), lambda: sign(content, chosen, now=now))
        # One set per server that a mail passes: a second one would only vouch for the first.
        sealing = next((one for one in chosen if Protocol.ARC in one.protocols and not one.is_over(now)), None)
        return await self._seal(signed, sealing, now, fetch_txt) if sealing else signed

    async def _seal(self, content: bytes, request: SigningRequest, now: datetime, fetch_txt: FetchTxt) -> bytes:
        mail = SplitContent(content)
        chain = read_chain(mail)
        records = await fetch_records(chain, fetch_txt)
        results = find_results(mail, self._authserv_id)

        def work() -> bytes:
            status: ChainStatus = verify_chain(mail, chain, records, now=now)
            return seal(content, request, now=now, authserv_id=self._authserv_id, results=results, chain_status=status)

        return await _away(len(content), work)

    def _refresh(self) -> None:
        """Read the file again when it has changed; go on with the old keys when it is broken."""
        if self._path is None or self._clock() - self._looked_at < LOOK_INTERVAL:
            return
        self._looked_at = self._clock()
        if read_stamp(self._file.stamp) == self._file.stamp:
            return
        try:
            self._file = load_signing_file(self._path)
        except BadSetting as error:
            # Tried again at every look: what is missing may be a key file that comes later. Told once.
            if str(error) != self._told:
                log.error("the signing keys cannot be read again: going on with the old ones", reason=str(error))
            self._told = str(error)
            return
        self._told = ""
        log.info("signing keys in force", count=sum(map(len, self._file.by_domain.values())))


async def _away(size: int, work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work) if size >= BIG else work()


def _find(by_domain: Mapping[str, Sequence[SigningRequest]], domain: str | None) -> Sequence[SigningRequest]:
    for name in _with_parents(domain):
        if found := by_domain.get(name):
            return found
    return ()


def _with_parents(domain: str | None) -> Iterable[str]:
    """``a.b.example``, ``b.example``, ``example``."""
    if not domain or domain.startswith("["):
        return
    try:
        name = domain_to_ascii(domain)
    except InvalidAddress:
        return
    while name:
        yield name
        name = name.partition(".")[2]
