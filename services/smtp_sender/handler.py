"""One attempt: source addresses → route → session → content → transaction. Returns a value that tells what happened."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.smtp_sender.content import Content, NotReady, Preparer
from services.smtp_sender.hops import Hops, NextHop
from services.smtp_sender.pool import Pool
from services.smtp_sender.resting import Resting
from services.smtp_sender.route import MOST_ADDRESSES, Host
from services.smtp_sender.session import Ending, Envelope, Session
from services.smtp_sender.settings import ServiceSettings
from services.smtp_sender.sources import Origin, Sources
from services.smtp_sender.telling import tell
from shared.delivery.finished import Finished
from shared.delivery.outcome import find_match
from shared.delivery.patterns import Patterns
from shared.storage.contents import Contents, NoContent
from shared.wire.instructions import Instructions
from shared.wire.message import Message
from shared.wire.result import Attempt, Result, State

MOST_SESSIONS = 2
"""Sessions that one attempt may have: a host that greets us and then turns us away is left for the next one, once."""
LONGEST_ATTEMPT = 1500.0
"""Seconds. RabbitMQ closes the channel of a consumer that keeps a message for 30 minutes: one tarpit would end the process."""


@dataclass(frozen=True, slots=True)
class Mail:
    """What one attempt is about."""

    message: Message
    instructions: Instructions
    ends_at: float
    """When the attempt must be over (time.monotonic)."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one way to the recipient."""

    attempt: Attempt
    content: Content | None = None
    host: Host | None = None
    """The host that had the last word."""
    falls_back: bool = False
    """A response pattern wants another host to be asked now."""


class Courier:
    """Makes attempts. Keeps what is shared between them: sessions, look-ups, hosts that rest."""

    def __init__(
        self,
        settings: ServiceSettings,
        pool: Pool,
        hops: Hops,
        origin: Origin,
        contents: Contents,
        preparer: Preparer,
        patterns: Patterns,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._hops = hops
        self._origin = origin
        self._contents = contents
        self._preparer = preparer
        self._patterns = patterns
        self._resting = Resting(settings.host_rest)

    async def attempt(self, message: Message, instructions: Instructions) -> Finished:
        """Make one attempt. Raises Unavailable when the trouble is ours."""
        mail = Mail(message, instructions, time.monotonic() + LONGEST_ATTEMPT)
        hop = self._hops.decide(instructions)
        sources = await self._origin.find(message, ips=instructions.source_addresses, pool=instructions.pool)
        if isinstance(sources, Ending):
            return Finished(tell(message, sources))
        tried = await self._try(mail, hop, sources)
        if hop.smarthost is None and self._hops.fallback is not None and tried.falls_back:
            hop = self._hops.fallback
            tried = await self._try(mail, hop, sources)
        extracted, size = (tried.content.extracted, tried.content.size) if tried.content else (None, 0)
        name = tried.host.name if tried.host else None
        return Finished(tried.attempt, extracted, size, with_smarthost=hop.smarthost is not None, host=name)

    async def _try(self, mail: Mail, hop: NextHop, sources: Sources) -> Tried:
        """The hosts of a hop, best first; the next one when a response pattern says so (``fallback``)."""
        hosts = await self._hops.find_hosts(mail.instructions, hop)
        if isinstance(hosts, Ending):
            return Tried(tell(mail.message, hosts))
        for _ in range(MOST_SESSIONS):
            tried = self._judge(mail, hop, await self._try_hosts(mail, hop, sources, hosts))
            hosts = _behind(hosts, tried.host)
            if not hosts or not tried.falls_back:
                break
        return tried

    async def _try_hosts(self, mail: Mail, hop: NextHop, sources: Sources, hosts: Sequence[Host]) -> Tried:
        """One transaction with the first host that gives us a session."""
        is_new = False
        while True:
            session, host = await self._open(mail, hop, sources, hosts, is_new=is_new)
            if isinstance(session, Ending):
                return Tried(tell(mail.message, session), host=host)
            is_reused = session.messages > 0
            try:
                ending, content = await self._send(session, mail)
            finally:
                self._pool.release(session)
            if not (is_reused and _is_stale(ending)):
                return Tried(tell(mail.message, ending, session), content, host)
            # The peer had ended the old session (idle for too long, enough mails): that says nothing about this mail.
            is_new = True

    async def _open(
        self, mail: Mail, hop: NextHop, sources: Sources, hosts: Sequence[Host], *, is_new: bool
    ) -> tuple[Session | Ending, Host | None]:
        """A session to the first host that gives us one, and the host that had the last word."""
        last: tuple[Ending, Host] | None = None
        greeted = 0
        for host in hosts[:MOST_ADDRESSES]:
            opened = await self._open_one(mail, hop, sources, host, is_new=is_new)
            if isinstance(opened, Session):
                return opened, host
            # What a host told us counts for more than an address that we could not even try.
            if last is None or opened.state is not State.BIND:
                last = opened, host
            greeted += opened.session is not None
            if greeted >= MOST_SESSIONS:
                break
        return last or (Ending(State.DNS, Result.ERROR), None)

    async def _open_one(self, mail: Mail, hop: NextHop, sources: Sources, host: Host, *, is_new: bool) -> Session | Ending:
        """From the first source address that can be used for this host."""
        port = hop.smarthost.port if hop.smarthost else self._settings.smtp_port
        if (rest := self._resting.find(host.address, port)) is not None:
            return rest
        # Named by the message: it may leave from nowhere else, and trying again would not make them usable.
        status = "5.3.5" if sources.is_named else None
        last = Ending(State.BIND, Result.ERROR, status=status, text=f"no source address can reach {host.address}")
        for source in sources.addresses:
            if source.address is not None and (":" in source.address) != (":" in host.address):
                continue
            target = self._hops.target(host, source, mail.instructions, hop)
            opened = await self._pool.acquire(target, ends_at=mail.ends_at, is_new=is_new)
            if isinstance(opened, Session):
                self._resting.remove(host.address, port)
                return opened
            if opened.state is not State.BIND:
                # From an address that the message named: that says as much about the address as about the host.
                if opened.state is State.CONNECT and not hop.is_trusted and not sources.is_named:
                    self._resting.add(target.address, target.port, opened)
                return opened
            last = replace(opened, status=status)
        return last

    async def _send(self, session: Session, mail: Mail) -> tuple[Ending, Content | None]:
        found = await self._contents.fetch(mail.message)
        if isinstance(found, NoContent):
            return Ending(found.state, found.result, text=found.text), None
        if (place := found.find(b"\0")) >= 0:
            # RFC 5322 2.2, 6152 3: a next hop that drops it could see the end of the content where there is none.
            return Ending(State.PROCESS, Result.INVALID, text=f"mime: octet {place} is a NUL, which no mail may contain"), None
        instructions = mail.instructions
        try:
            content = await self._preparer.prepare(found, instructions, takes_eight_bit="8BITMIME" in session.extensions)
        except NotReady as trouble:
            return trouble.ending, None
        recipient, reverse_path = instructions.recipient, instructions.reverse_path
        envelope = Envelope(
            reverse_path=reverse_path.address if reverse_path else "",
            recipient=recipient.address,
            size=content.size,
            is_eight_bit=content.is_eight_bit,
            needs_utf8=not recipient.is_ascii or (reverse_path is not None and not reverse_path.is_ascii),
            dsn=instructions.dsn,
        )
        return await session.transact(envelope, content.stuffed), content

    def _judge(self, mail: Mail, hop: NextHop, tried: Tried) -> Tried:
        """What the response patterns say about the host: is another one to be asked now, is this one to be left alone?"""
        host, attempt = tried.host, tried.attempt
        port = hop.smarthost.port if hop.smarthost else self._settings.smtp_port
        if attempt.result is Result.ACCEPTED:
            if host is not None:
                self._resting.forgive(host.address, port)
            return tried
        match = find_match(mail.message, mail.instructions, attempt, self._patterns, host=host.name if host else None)
        if match is None:
            return tried
        if match.strange and host is not None and not hop.is_trusted:
            self._resting.count_strange(host.address, port, Ending(attempt.state, attempt.result, text=attempt.description))
        return replace(tried, falls_back=bool(match.fallback))


def _behind(hosts: Sequence[Host], host: Host | None) -> list[Host]:
    """The hosts that come after ``host``."""
    return list(hosts[hosts.index(host) + 1 :]) if host is not None and host in hosts else []


def _is_stale(ending: Ending) -> bool:
    """The peer ended a session that was used before, at the first command of a new transaction."""
    is_421 = ending.reply is not None and ending.reply.code == 421
    return ending.state is State.MAILFROM and (ending.result is Result.LOST or is_421)
