"""One attempt: source address → route → session → payload → transaction. Returns a value that tells what happened."""

import time
from collections.abc import Sequence
from dataclasses import replace

from services.smtp_sender.content import Content, prepare
from services.smtp_sender.hops import Hops, NextHop
from services.smtp_sender.pool import Pool
from services.smtp_sender.resting import Resting
from services.smtp_sender.route import MOST_ADDRESSES, Host, Resolver, is_local
from services.smtp_sender.session import Ending, Envelope, Session
from services.smtp_sender.settings import ServiceSettings
from services.smtp_sender.telling import tell
from shared.amqp.delivering import Finished
from shared.storage.contents import Contents, NoContent
from shared.wire.instructions import Instructions
from shared.wire.message import Message
from shared.wire.result import Attempt, Result, State

MOST_SESSIONS = 2
"""Sessions that one attempt may have: a host that greets us and then turns us away is left for the next one, once."""
LONGEST_ATTEMPT = 1500.0
"""Seconds. RabbitMQ closes the channel of a consumer that keeps a message for 30 minutes: one tarpit would end the process."""


class Courier:
    """Makes attempts. Keeps what is shared between them: sessions, look-ups, hosts that rest."""

    def __init__(self, settings: ServiceSettings, pool: Pool, resolver: Resolver | None, contents: Contents) -> None:
        """``resolver`` may be None only when everything goes to a sink."""
        self._settings = settings
        self._pool = pool
        self._contents = contents
        self._resting = Resting(settings.host_rest)
        self._hops = Hops(settings, resolver)

    async def attempt(self, message: Message, instructions: Instructions) -> Finished:
        """Make one attempt. Raises Unavailable when the trouble is ours."""
        hop = self._hops.decide(instructions)
        told, content = await self._attempt(message, instructions, hop, time.monotonic() + LONGEST_ATTEMPT)
        extracted, size = (content.extracted, content.size) if content else (None, 0)
        return Finished(told, extracted, size, with_smarthost=hop.smarthost is not None)

    async def _attempt(
        self, message: Message, instructions: Instructions, hop: NextHop, ends_at: float
    ) -> tuple[Attempt, Content | None]:
        sources = self._sources(instructions)
        if not sources:
            return tell(message, Ending(State.PROCESS, Result.ERROR, text="ips: none of them is an address of this host")), None
        hosts = await self._hops.find_hosts(instructions, hop)
        if isinstance(hosts, Ending):
            return tell(message, hosts), None
        is_new = False
        while True:
            session = await self._open(hosts, sources, instructions, hop, ends_at=ends_at, is_new=is_new)
            if isinstance(session, Ending):
                return tell(message, session), None
            is_reused = session.messages > 0
            try:
                ending, content = await self._send(session, message, instructions)
            finally:
                self._pool.release(session)
            if not (is_reused and _is_stale(ending)):
                return tell(message, replace(ending, session=session)), content
            # The peer had ended the old session (idle for too long, enough mails): that says nothing about this mail.
            is_new = True

    def _sources(self, instructions: Instructions) -> Sequence[str | None]:
        """Where to send from, in order of preference; None = the system chooses. Of ``ips`` those that this host has."""
        if instructions.source_addresses is not None:
            return [address for address in instructions.source_addresses if is_local(address)]
        return self._settings.smtp_default_ips or (None,)

    async def _open(
        self,
        hosts: Sequence[Host],
        sources: Sequence[str | None],
        instructions: Instructions,
        hop: NextHop,
        *,
        ends_at: float,
        is_new: bool,
    ) -> Session | Ending:
        """A session to the first host that gives us one."""
        last: Ending | None = None
        greeted = 0
        for host in hosts[:MOST_ADDRESSES]:
            opened = await self._open_one(host, sources, instructions, hop, ends_at=ends_at, is_new=is_new)
            if isinstance(opened, Session):
                return opened
            # What a host told us counts for more than an address that we could not even try.
            last = opened if last is None or opened.state is not State.BIND else last
            greeted += opened.session is not None
            if greeted >= MOST_SESSIONS:
                break
        return last or Ending(State.DNS, Result.ERROR)

    async def _open_one(
        self,
        host: Host,
        sources: Sequence[str | None],
        instructions: Instructions,
        hop: NextHop,
        *,
        ends_at: float,
        is_new: bool,
    ) -> Session | Ending:
        """From the first source address that can be used for this host."""
        port = hop.smarthost.port if hop.smarthost else self._settings.smtp_port
        if (rest := self._resting.find(host.address, port)) is not None:
            return rest
        # Named by the message: it may leave from nowhere else, and trying again would not make them usable.
        status = None if instructions.source_addresses is None else "5.3.5"
        last = Ending(State.BIND, Result.ERROR, status=status, text=f"no source address can reach {host.address}")
        for source in sources:
            if source is not None and (":" in source) != (":" in host.address):
                continue
            target = self._hops.target(host, source, instructions, hop)
            opened = await self._pool.acquire(target, ends_at=ends_at, is_new=is_new)
            if isinstance(opened, Session):
                self._resting.remove(host.address, port)
                return opened
            if opened.state is not State.BIND:
                # From an address that the message named: that says as much about the address as about the host.
                if opened.state is State.CONNECT and not hop.is_trusted and instructions.source_addresses is None:
                    self._resting.add(target.address, target.port, opened)
                return opened
            last = replace(opened, status=status)
        return last

    async def _send(self, session: Session, message: Message, instructions: Instructions) -> tuple[Ending, Content | None]:
        found = await self._contents.fetch(message)
        if isinstance(found, NoContent):
            return Ending(found.state, found.result, text=found.text), None
        content = prepare(found)
        recipient, reverse_path = instructions.recipient, instructions.reverse_path
        envelope = Envelope(
            reverse_path=reverse_path.address if reverse_path else "",
            recipient=recipient.address,
            size=content.size,
            is_eight_bit=content.is_eight_bit,
            needs_utf8=not recipient.is_ascii or (reverse_path is not None and not reverse_path.is_ascii),
        )
        return await session.transact(envelope, content.stuffed), content


def _is_stale(ending: Ending) -> bool:
    """The peer ended a session that was used before, at the first command of a new transaction."""
    is_421 = ending.reply is not None and ending.reply.code == 421
    return ending.state is State.MAILFROM and (ending.result is Result.LOST or is_421)
