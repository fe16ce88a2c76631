"""Look-ups in the DNS, each made once: a cache that honours TTLs, negative ones too, and one question for all who wait for it."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
from prometheus_client import Counter

from services.smtp_sender.dane import Tlsa
from services.smtp_sender.session import Ending
from shared.trouble import Unavailable
from shared.wire.result import Result, State

LOOKUPS = Counter("smtp_dns_lookups", "Questions put to the resolvers")
HITS = Counter("smtp_dns_cache_hits", "Questions answered from what an earlier look-up found")
MOST_ANSWERS = 50_000
"""Kept at once; a few hundred bytes each."""
LONGEST, LONGEST_NEGATIVE = 86_400.0, 10_800.0
"""Seconds an answer is kept, whatever its TTL; that there is none for three hours (RFC 2308 5)."""
BRIEF = 30.0
"""Seconds for which a name stays broken (RFC 2308 7): a query per mail would not mend it."""
EDNS_SIZE = 1232
_IMPOSSIBLE = (
    dns.name.BadEscape,
    dns.name.EmptyLabel,
    dns.name.IDNAException,
    dns.name.LabelTooLong,
    dns.name.NameTooLong,
    UnicodeError,
)
K = TypeVar("K")
V = TypeVar("V")
Kind = dns.rdatatype.RdataType


@dataclass(frozen=True, slots=True)
class Answer:
    """What the DNS says about one name and type."""

    records: tuple[Any, ...] = ()
    """MX: (preference, host); A, AAAA: address; TXT: bytes; TLSA: Tlsa; CNAME: name. Empty: it has none of this type."""
    alias_of: str | None = None
    """The name behind the CNAMEs, when there are any."""
    is_secure: bool = False
    """Validated by a resolver that is believed."""
    trouble: Ending | None = None
    """Why there is no answer."""

    @property
    def is_broken(self) -> bool:
        """Nobody can tell what there is: the name servers fail, or DNSSEC says that the answer is forged."""
        return self.trouble is not None and self.trouble.result is Result.TIMEOUT


class Coalesced(Generic[K, V]):
    """One task per key at a time; whoever asks meanwhile waits for the same one."""

    def __init__(self) -> None:
        self._running: dict[K, asyncio.Task[V]] = {}

    async def run(self, key: K, start: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The result of ``start``, or of the one that runs for ``key`` already."""
        # Who gives up does not take the answer from the others.
        return await asyncio.shield(self.begin(key, start))

    def begin(self, key: K, start: Callable[[], Coroutine[Any, Any, V]]) -> asyncio.Task[V]:
        """The same without waiting."""
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.get_running_loop().create_task(start())
            task.add_done_callback(partial(self._end, key))
        return task

    def _end(self, key: K, task: asyncio.Task[V]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # Heard, also when nobody is left who waits.


class Lookups:
    """Asks resolvers."""

    def __init__(
        self,
        servers: Sequence[dns.nameserver.Nameserver],
        lifetime: float,
        *,
        validates: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``servers`` empty = /etc/resolv.conf (raises dns.resolver.NoResolverConfiguration). ``lifetime``: seconds for one look-up.

        ``validates``: what the resolvers say about DNSSEC (AD) is believed.
        """
        self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        if servers:
            self._resolver.nameservers = list(servers)
        self._resolver.lifetime = lifetime
        # Of the lifetime, so that a dead resolver leaves time for the next one.
        self._resolver.timeout = min(lifetime / 2, 3.0)
        self._resolver.cache = None
        self._validates = validates
        if validates:
            # RFC 6840 5.7 lets AD alone ask for it, which older resolvers do not know.
            self._resolver.flags = dns.flags.RD | dns.flags.AD
            self._resolver.use_edns(0, dns.flags.DO, EDNS_SIZE)
        self._clock = clock
        self._kept: OrderedDict[tuple[str, Kind], tuple[float, Answer]] = OrderedDict()
        self._asking: Coalesced[tuple[str, Kind], Answer] = Coalesced()
        self._checking: Coalesced[None, None] = Coalesced()
        self._alive_until = 0.0

    def peek(self, name: str, kind: Kind) -> Answer | None:
        """The answer when it is known already."""
        kept = self._kept.get((name, kind))
        if kept is None or kept[0] <= self._clock():
            return None
        HITS.inc()
        return kept[1]

    async def ask(self, name: str, kind: Kind) -> Answer:
        """The answer. ``name``: lower case, no final dot. Raises Unavailable when no resolver can be reached."""
        answer = self.peek(name, kind)
        return answer if answer is not None else await self._asking.run((name, kind), partial(self._look_up, name, kind))

    async def _look_up(self, name: str, kind: Kind) -> Answer:
        LOOKUPS.inc()
        answer, ttl = await self._query(name, kind)
        longest = LONGEST if answer.records else LONGEST_NEGATIVE
        self._kept.pop((name, kind), None)
        self._kept[name, kind] = self._clock() + min(ttl, longest), answer
        if len(self._kept) > MOST_ANSWERS:
            self._kept.popitem(last=False)
        return answer

    async def _query(self, name: str, kind: Kind) -> tuple[Answer, float]:
        """The answer and for how many seconds it holds."""
        try:
            found = await self._resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            trouble = Ending(State.DNS, Result.ERROR, code=554, status="5.1.2", text=f"{name} does not exist")
            response: dns.message.QueryMessage = next(iter(error.kwargs["responses"].values()))
            return Answer(is_secure=self._is_secure(response), trouble=trouble), response.resolve_chaining().minimum_ttl
        except _IMPOSSIBLE as error:
            text = f"{name[:200]!r} is no name that DNS can hold: {error}"
            return Answer(trouble=Ending(State.DNS, Result.ERROR, code=554, status="5.1.2", text=text)), LONGEST
        except dns.resolver.NoNameservers as error:
            if not _was_answered(error):
                await self._check_reachable()
            text = f"{name}: the name servers answer with a failure (SERVFAIL)"
            return Answer(trouble=Ending(State.DNS, Result.TIMEOUT, text=text)), BRIEF
        except (dns.exception.DNSException, OSError) as error:
            await self._check_reachable()
            text = f"{name}: {type(error).__name__}: no answer"
            return Answer(trouble=Ending(State.DNS, Result.TIMEOUT, text=text)), BRIEF
        chain = found.chaining_result
        records = tuple(_read(record, kind) for record in chain.answer or ())
        alias_of = _spell(chain.canonical_name) if chain.cnames else None
        return Answer(records, alias_of, self._is_secure(found.response)), chain.minimum_ttl

    def _is_secure(self, response: dns.message.Message) -> bool:
        return self._validates and bool(response.flags & dns.flags.AD)

    async def _check_reachable(self) -> None:
        """Silence about one name is that domain's trouble; silence about the root is ours."""
        if time.monotonic() >= self._alive_until:
            await self._checking.run(None, self._ask_root)

    async def _ask_root(self) -> None:
        try:
            await self._resolver.resolve(dns.name.root, dns.rdatatype.NS, raise_on_no_answer=False, lifetime=3.0)
        except dns.resolver.NXDOMAIN:
            pass
        except (dns.exception.DNSException, OSError) as error:
            if not (isinstance(error, dns.resolver.NoNameservers) and _was_answered(error)):
                raise Unavailable(f"no resolver answers: {error}") from None
        self._alive_until = time.monotonic() + 10


def _read(record: Any, kind: Kind) -> Any:
    if kind == dns.rdatatype.MX:
        return int(record.preference), _spell(record.exchange)
    if kind == dns.rdatatype.TXT:
        return b"".join(record.strings)
    if kind == dns.rdatatype.TLSA:
        return Tlsa(int(record.usage), int(record.selector), int(record.mtype), bytes(record.cert))
    return _spell(record.target) if kind == dns.rdatatype.CNAME else str(record.address)


def _spell(name: dns.name.Name) -> str:
    """Without the final dot; empty for the root."""
    return str(name).rstrip(".")


def _was_answered(error: dns.resolver.NoNameservers) -> bool:
    """Did any resolver say anything (SERVFAIL, REFUSED)? Otherwise the trouble is ours: no way to any of them."""
    return any(response is not None for *_, response in error.kwargs.get("errors", ()))
