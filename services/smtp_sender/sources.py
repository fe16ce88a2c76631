"""Where a mail is sent from: the addresses it names (``ips``), else those of its ``pool``, else ``smtp-default-ips``, else as the
system chooses; and what is said in EHLO from there.
"""

import ipaddress
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from services.smtp_sender.pool_book import PoolBook
from services.smtp_sender.session import Ending
from services.smtp_sender.settings import ServiceSettings
from shared.delivery.patterns import find_greylisted_source
from shared.delivery.pools import Source
from shared.reachable import is_local
from shared.wire.message import Message
from shared.wire.result import Result, State

KNOWN_FOR = 30.0
"""Seconds for which it is believed whether an address is this host's."""
MOST_KNOWN = 10_000
"""Addresses remembered: messages name them, so anybody may name many."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The source addresses of one attempt."""

    addresses: tuple[Source, ...]
    """In the order in which they are tried; at least one."""
    is_named: bool
    """By the message itself (``ips``): it may leave from nowhere else, and trying again would not make them usable."""


class Origin:
    """Finds the source addresses of mails, by the settings and pools of this process."""

    def __init__(self, settings: ServiceSettings, book: PoolBook, *, check: Callable[[str], bool] | None = None) -> None:
        """``check``: is the address this host's? For tests that need other ones."""
        self._book = book
        self._is_local = check or LocalAddresses().contains
        self._helo_names = settings.smtp_helo_names
        self._defaults = tuple(Source(address) for address in settings.smtp_default_ips)

    async def find(self, message: Message, *, ips: Sequence[str] | None, pool: str | None) -> Sources | Ending:
        """The addresses for the message's next attempt, or why it has none.

        ``ips`` and ``pool`` as the message says them; None: it says nothing. Raises Unavailable when the pools were never seen.
        """
        if ips is not None:
            candidates = [Source(address) for address in dict.fromkeys(ips) if self._is_local(address)]
            if not candidates:
                shown = ", ".join(ips)[:200] or "an empty list"
                return Ending(State.PROCESS, Result.ERROR, text=f"ips: {shown}: none of them is an address of this host")
        elif pool is not None:
            found = await self._book.find(pool)
            if found is None:
                text = f"pool: {pool[:200]!r} is not known here; {self._book.count} others are"
                return Ending(State.PROCESS, Result.ERROR, text=text)
            candidates = [source for source in found.sources if source.address and self._is_local(source.address)]
            if not candidates:
                # The operator's addresses: they may be down, or another host's. Another attempt may find them.
                return Ending(State.BIND, Result.ERROR, text=f"pool: {pool[:200]!r} has no address of this host")
        else:
            local = [source for source in self._defaults if source.address and self._is_local(source.address)]
            candidates = local or list(self._defaults) or [Source(None)]
        ordered = order_sources(
            candidates, ident=message.id, attempt=message.attempt, first=find_greylisted_source(message.results)
        )
        return Sources(tuple(name_source(source, self._helo_names) for source in ordered), is_named=ips is not None)


def order_sources(sources: Sequence[Source], *, ident: str, attempt: int, first: str | None = None) -> list[Source]:
    """The order in which they are tried: shuffled, but always the same for the same attempt of the same mail.

    ``first``: the address that greylisted the last attempt; it comes first when it is among them.
    """
    if len(sources) < 2:
        return list(sources)

    def rank(source: Source) -> tuple[bool, bytes]:
        draw = f"{ident}\0{attempt}\0{source.address}".encode("utf-8", "surrogatepass")
        return source.address != first, blake2b(draw, digest_size=8).digest()

    return sorted(sources, key=rank)


def name_source(source: Source, helo_names: Mapping[str, str]) -> Source:
    """The source with its name for EHLO: its own (its pool's), else the one in ``smtp-helo-names``, else none."""
    if source.helo is not None or source.address is None:
        return source
    return replace(source, helo=helo_names.get(source.address))


class LocalAddresses:
    """Which addresses are this host's. Asking the system costs a socket, so the answer is remembered for ``KNOWN_FOR``."""

    def __init__(self, check: Callable[[str], bool] = is_local, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds."""
        self._check = check
        self._clock = clock
        self._known: dict[str, tuple[float, bool]] = {}

    def contains(self, address: str) -> bool:
        """Is ``address`` one of this host's? The unspecified address and groups are nobody's."""
        now = self._clock()
        until, answer = self._known.get(address, (now, False))
        if now < until:
            return answer
        answer = self._ask(address)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[address] = (now + KNOWN_FOR, answer)
        return answer

    def _ask(self, address: str) -> bool:
        parsed = ipaddress.ip_address(address)
        if parsed.is_unspecified or parsed.is_multicast:
            return False
        try:
            return self._check(address)
        except OSError:
            # This system has no such family of addresses.
            return False
