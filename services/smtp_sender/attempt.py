"""One attempt: source address → route → session → payload → transaction. Returns a value that tells what happened."""

import ipaddress
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from services.smtp_sender.content import Content, Contents
from services.smtp_sender.pool import Pool
from services.smtp_sender.route import MOST_ADDRESSES, Host, Resolver, decide_domain, is_allowed, parse_literal
from services.smtp_sender.session import Ending, Envelope, Session, Target
from services.smtp_sender.settings import ServiceSettings
from shared.log import get_logger
from shared.trouble import BadSetting
from shared.wire.instructions import Instructions, Smarthost
from shared.wire.message import Message
from shared.wire.result import Attempt, Result, State

log = get_logger()

MOST_SESSIONS = 2
"""Sessions that one attempt may have: a host that greets us and then turns us away is left for the next one, once."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An attempt that was made."""

    attempt: Attempt
    extracted: Mapping[str, Any] | None
    """Of the content as sent; None when it did not come to that."""
    with_smarthost: bool


@dataclass(frozen=True, slots=True)
class NextHop:
    """Who takes the mail: a fixed host or the MX of the domain."""

    smarthost: Smarthost | None
    is_trusted: bool
    """Named by the operator: its address is not questioned."""


class Courier:
    """Makes attempts. Keeps what is shared between them: sessions, look-ups, hosts that rest."""

    def __init__(self, settings: ServiceSettings, pool: Pool, resolver: Resolver | None, contents: Contents) -> None:
        """``resolver`` may be None only when everything goes to a sink."""
        self._settings = settings
        self._pool = pool
        self._resolver = resolver
        self._contents = contents
        self._resting: dict[tuple[str, int], tuple[float, Ending]] = {}
        self._operators_hop = _operators_hop(settings)

    async def attempt(self, message: Message, instructions: Instructions) -> Finished:
        """Make one attempt. Raises Unavailable when the trouble is ours."""
        hop = self._decide_hop(instructions)
        session: Session | None = None
        extracted: Mapping[str, Any] | None = None
        sources = self._sources(instructions)
        ending: Ending
        if not sources:
            ending = Ending(State.PROCESS, Result.ERROR, text="ips: the list is empty")
        else:
            hosts = await self._find_hosts(instructions, hop)
            opened = hosts if isinstance(hosts, Ending) else await self._open(hosts, sources, instructions, hop)
            if isinstance(opened, Ending):
                ending = opened
            else:
                session = opened
                sent_before = session.protocol.bytes_sent
                try:
                    ending, content = await self._send(session, message, instructions)
                finally:
                    self._pool.release(session)
                extracted = content.extracted if content else None
                told = _tell(message, ending, session, session.protocol.bytes_sent - sent_before)
                return Finished(told, extracted, with_smarthost=hop.smarthost is not None)
        return Finished(_tell(message, ending, None, 0), extracted, with_smarthost=hop.smarthost is not None)

    def _decide_hop(self, instructions: Instructions) -> NextHop:
        if self._settings.smtp_sink_address:
            return self._operators_hop
        if instructions.smarthost is not None:
            return NextHop(instructions.smarthost, is_trusted=False)
        return self._operators_hop

    def _sources(self, instructions: Instructions) -> Sequence[str | None]:
        if instructions.source_addresses is not None:
            return instructions.source_addresses
        return self._settings.smtp_default_ips or (None,)

    async def _find_hosts(self, instructions: Instructions, hop: NextHop) -> list[Host] | Ending:
        """The addresses to try, best first, those that may be connected to."""
        name = hop.smarthost.hostname if hop.smarthost else decide_domain(instructions.recipient)
        literal = _as_address(name) if hop.smarthost else parse_literal(name)
        if literal is not None:
            hosts: list[Host] | Ending = [Host(name, literal)]
        elif self._resolver is None:
            raise BadSetting(f"dns-servers: no resolver, and {name!r} is not an address")
        elif hop.smarthost is not None:
            hosts = await self._resolver.find_addresses(name)
        else:
            hosts = await self._resolver.find_hosts(name)
        if isinstance(hosts, Ending) or hop.is_trusted:
            return hosts or Ending(State.DNS, Result.ERROR, text=f"{name} has no address")
        allowed = [host for host in hosts if is_allowed(host.address, self._settings.smtp_allow_private)]
        if hosts and not allowed:
            log.warning("only private addresses", domain=name, addresses=[host.address for host in hosts][:5])
            text = f"{name} leads to private addresses only: {', '.join(host.address for host in hosts)[:200]}"
            return Ending(State.CONNECT, Result.ERROR, code=451, status="4.4.6", text=text)
        return allowed or Ending(State.DNS, Result.ERROR, text=f"{name} has no address")

    async def _open(
        self, hosts: Sequence[Host], sources: Sequence[str | None], instructions: Instructions, hop: NextHop
    ) -> Session | Ending:
        """A session to the first host that gives us one."""
        last: Ending | None = None
        greeted = 0
        for host in hosts[:MOST_ADDRESSES]:
            target = self._target(host, sources, instructions, hop)
            if target is None:
                last = last or Ending(State.BIND, Result.ERROR, text=f"no source address can reach {host.address}")
                continue
            rests = self._resting.get((target.address, target.port))
            if rests is not None and rests[0] > time.monotonic():
                last = last or rests[1]
                continue
            opened = await self._pool.acquire(target)
            if isinstance(opened, Session):
                self._resting.pop((target.address, target.port), None)
                return opened
            last = opened
            if opened.state is State.CONNECT and not hop.is_trusted:
                self._rest(target, opened)
            greeted += opened.state is not State.CONNECT
            if greeted >= MOST_SESSIONS:
                break
        return last or Ending(State.DNS, Result.ERROR)

    def _rest(self, target: Target, ending: Ending) -> None:
        if len(self._resting) > 10_000:
            now = time.monotonic()
            self._resting = {key: rest for key, rest in self._resting.items() if rest[0] > now}
        until = time.monotonic() + self._settings.host_rest.total_seconds()
        since = datetime.now(UTC).strftime("%H:%M:%S")
        text = f"{ending.text or 'no answer'} (not tried again for a while, since {since} UTC)"
        self._resting[(target.address, target.port)] = (until, replace(ending, text=text))

    def _target(self, host: Host, sources: Sequence[str | None], instructions: Instructions, hop: NextHop) -> Target | None:
        fitting = [source for source in sources if source is None or (":" in source) == (":" in host.address)]
        if not fitting:
            return None
        settings, smarthost = self._settings, hop.smarthost
        return Target(
            host=host.name,
            address=host.address,
            port=smarthost.port if smarthost else settings.smtp_port,
            source=fitting[0],
            security=instructions.security or settings.smtp_security,
            username=smarthost.username if smarthost else None,
            password=smarthost.password if smarthost else None,
            connect_timeout=settings.smtp_connect_timeout.total_seconds(),
            auth_clear=settings.smtp_auth_clear,
        )

    async def _send(self, session: Session, message: Message, instructions: Instructions) -> tuple[Ending, Content | None]:
        content = await self._contents.load(message)
        if isinstance(content, Ending):
            return content, None
        recipient, reverse_path = instructions.recipient, instructions.reverse_path
        envelope = Envelope(
            reverse_path=reverse_path.address if reverse_path else "",
            recipient=recipient.address,
            size=content.size,
            is_eight_bit=content.is_eight_bit,
            needs_utf8=not recipient.is_ascii or (reverse_path is not None and not reverse_path.is_ascii),
        )
        return await session.transact(envelope, content.stuffed), content


def _tell(message: Message, ending: Ending, session: Session | None, sent: int) -> Attempt:
    """The attempt in the words of a result."""
    reply = ending.reply
    # A peer that says its code but no text, or a code without class, is told verbatim all the same.
    attempt = Attempt(
        state=ending.state,
        result=ending.result,
        number=message.attempt,
        time=datetime.now(UTC),
        code=reply.code if reply else ending.code,
        status=reply.enhanced_status if reply else ending.status,
        description=reply.text if reply else ending.text,
    )
    if session is None:
        return attempt
    return replace(
        attempt,
        mta=session.mta,
        local_ip=session.local_ip,
        remote_ip=session.remote_ip,
        messages=session.messages,
        sent={"connection": sent, "data": session.data_sent},
        authentication=session.authentication,
        dsn="DSN" in session.extensions if ending.result is Result.ACCEPTED else None,
        cipher=session.tls.get("cipher"),
        certificate=session.tls.get("certificate"),
    )


def _operators_hop(settings: ServiceSettings) -> NextHop:
    if settings.smtp_sink_address:
        host, _, port = settings.smtp_sink_address.rpartition(":")
        if not host or not port.isdigit():
            raise BadSetting(f"smtp-sink-address: {settings.smtp_sink_address!r}: expected host:port")
        return NextHop(Smarthost(host.strip("[]"), int(port)), is_trusted=True)
    if settings.smarthost:
        username, password = settings.smarthost_username or None, settings.smarthost_password.get_secret_value()
        return NextHop(Smarthost(settings.smarthost, settings.smarthost_port, username, password), is_trusted=True)
    return NextHop(None, is_trusted=False)


def _as_address(name: str) -> str | None:
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return None
