"""One attempt: source address → route → session → payload → transaction. Returns a value that tells what happened."""

import ipaddress
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from services.smtp_sender.content import Content, prepare
from services.smtp_sender.pool import Pool
from services.smtp_sender.route import MOST_ADDRESSES, Host, Resolver, decide_domain, is_allowed, is_local, parse_literal
from services.smtp_sender.session import Ending, Envelope, Session, Target
from services.smtp_sender.settings import ServiceSettings
from shared.amqp.delivering import Finished
from shared.log import get_logger
from shared.storage.contents import Contents, NoContent
from shared.trouble import BadSetting
from shared.wire.instructions import Instructions, Security, Smarthost
from shared.wire.message import Message
from shared.wire.result import Attempt, Result, State

log = get_logger()

MOST_SESSIONS = 2
"""Sessions that one attempt may have: a host that greets us and then turns us away is left for the next one, once."""
LONGEST_ATTEMPT = 1500.0
"""Seconds. RabbitMQ closes the channel of a consumer that keeps a message for 30 minutes: one tarpit would end the process."""


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
        told, content = await self._attempt(message, instructions, hop, time.monotonic() + LONGEST_ATTEMPT)
        extracted, size = (content.extracted, content.size) if content else (None, 0)
        return Finished(told, extracted, size, with_smarthost=hop.smarthost is not None)

    async def _attempt(
        self, message: Message, instructions: Instructions, hop: NextHop, ends_at: float
    ) -> tuple[Attempt, Content | None]:
        sources = self._sources(instructions)
        if not sources:
            return _tell(message, Ending(State.PROCESS, Result.ERROR, text="ips: none of them is an address of this host")), None
        hosts = await self._find_hosts(instructions, hop)
        if isinstance(hosts, Ending):
            return _tell(message, hosts), None
        is_new = False
        while True:
            session = await self._open(hosts, sources, instructions, hop, ends_at=ends_at, is_new=is_new)
            if isinstance(session, Ending):
                return _tell(message, session), None
            is_reused = session.messages > 0
            try:
                ending, content = await self._send(session, message, instructions)
            finally:
                self._pool.release(session)
            if not (is_reused and _is_stale(ending)):
                return _tell(message, replace(ending, session=session)), content
            # The peer had ended the old session (idle for too long, enough mails): that says nothing about this mail.
            is_new = True

    def _decide_hop(self, instructions: Instructions) -> NextHop:
        if self._settings.smtp_sink_address:
            return self._operators_hop
        if instructions.smarthost is not None:
            return NextHop(instructions.smarthost, is_trusted=False)
        return self._operators_hop

    def _sources(self, instructions: Instructions) -> Sequence[str | None]:
        """Where to send from, in order of preference; None = the system chooses. Of ``ips`` those that this host has."""
        if instructions.source_addresses is not None:
            return [address for address in instructions.source_addresses if is_local(address)]
        return self._settings.smtp_default_ips or (None,)

    async def _find_hosts(self, instructions: Instructions, hop: NextHop) -> list[Host] | Ending:
        """The addresses to try, best first, those that may be connected to; at least one."""
        name = hop.smarthost.hostname if hop.smarthost else decide_domain(instructions.recipient)
        literal = _as_address(name) if hop.smarthost else parse_literal(name)
        if literal is not None:
            hosts: list[Host] | Ending = [Host(literal, literal)]
        elif self._resolver is None:
            raise BadSetting(f"dns-servers: no resolver, and {name!r} is not an address")
        elif hop.smarthost is not None:
            hosts = await self._resolver.find_addresses(name)
        else:
            hosts = await self._resolver.find_hosts(name)
        if isinstance(hosts, Ending):
            return hosts
        if not hosts:
            return Ending(State.DNS, Result.ERROR, text=f"{name} has no address")
        return hosts if hop.is_trusted else self._allow(name, hosts)

    def _allow(self, name: str, hosts: Sequence[Host]) -> list[Host] | Ending:
        """Those that may be connected to on the word of DNS or of a message: not ourselves, nothing private."""
        ours = self._settings.smtp_hostname.lower()
        found = [host for host in hosts if is_allowed(host.address, self._settings.smtp_allow_private)]
        if not found:
            log.warning("only private addresses", domain=name, addresses=[host.address for host in hosts][:5])
            text = f"{name} leads to private addresses only: {', '.join(host.address for host in hosts)[:200]}"
            return Ending(State.CONNECT, Result.ERROR, code=451, status="4.4.6", text=text)
        for index, host in enumerate(found):
            if host.name.lower() == ours or (ipaddress.ip_address(host.address).is_global and is_local(host.address)):
                # RFC 5321 5.1: who is an MX itself uses only those before itself.
                del found[index:]
                break
        return found or Ending(State.DNS, Result.ERROR, code=554, status="5.4.6", text=f"mail for {name} leads back to this host")

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
        rest = self._resting.get((host.address, port))
        if rest is not None and rest[0] > time.monotonic():
            return rest[1]
        # Named by the message: it may leave from nowhere else, and trying again would not make them usable.
        status = None if instructions.source_addresses is None else "5.3.5"
        last = Ending(State.BIND, Result.ERROR, status=status, text=f"no source address can reach {host.address}")
        for source in sources:
            if source is not None and (":" in source) != (":" in host.address):
                continue
            target = self._target(host, source, instructions, hop)
            opened = await self._pool.acquire(target, ends_at=ends_at, is_new=is_new)
            if isinstance(opened, Session):
                self._resting.pop((host.address, port), None)
                return opened
            if opened.state is not State.BIND:
                # From an address that the message named: that says as much about the address as about the host.
                if opened.state is State.CONNECT and not hop.is_trusted and instructions.source_addresses is None:
                    self._rest(target, opened)
                return opened
            last = replace(opened, status=status)
        return last

    def _rest(self, target: Target, ending: Ending) -> None:
        if len(self._resting) > 10_000:
            now = time.monotonic()
            self._resting = {key: rest for key, rest in self._resting.items() if rest[0] > now}
        until = time.monotonic() + self._settings.host_rest.total_seconds()
        since = datetime.now(UTC).strftime("%H:%M:%S")
        text = f"{ending.text or 'no answer'} (not tried again for a while, since {since} UTC)"
        self._resting[(target.address, target.port)] = (until, replace(ending, text=text))

    def _target(self, host: Host, source: str | None, instructions: Instructions, hop: NextHop) -> Target:
        settings, smarthost = self._settings, hop.smarthost
        security = instructions.security or settings.smtp_security
        # An MX name from plain DNS proves nothing: whoever forges it has a certificate for it. Only the recipient's domain is known.
        is_unproven = security is Security.VERIFIED and smarthost is None
        return Target(
            host=host.name,
            address=host.address,
            port=smarthost.port if smarthost else settings.smtp_port,
            source=source,
            security=security,
            username=smarthost.username if smarthost else None,
            password=smarthost.password if smarthost else None,
            connect_timeout=settings.smtp_connect_timeout.total_seconds(),
            auth_clear=settings.smtp_auth_clear,
            certificate_name=decide_domain(instructions.recipient).strip("[]") if is_unproven else None,
        )

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


def _tell(message: Message, ending: Ending) -> Attempt:
    """The attempt in the words of a result."""
    reply, session = ending.reply, ending.session
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
        sent={"connection": session.bytes_sent, "data": session.data_sent},
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
