"""How an SMTP session begins: connect, greeting, EHLO, STARTTLS, AUTH. A refusal is a value here too."""

import asyncio
import math
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from services.smtp_sender.authentication import authenticate
from services.smtp_sender.policy import FAILURES, Basis
from services.smtp_sender.protocol import Lost, ReplyProtocol
from services.smtp_sender.session import TIMEOUTS, Ending, Session, Target, Timeouts, refusal_of
from services.smtp_sender.tls import Tls
from shared.log import get_logger
from shared.mail.reply import Reply
from shared.wire.instructions import Security
from shared.wire.result import Result, State

log = get_logger()

IP_BIND_ADDRESS_NO_PORT = 24
"""Linux; not in Python's ``socket``."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How we present ourselves, the same for all sessions."""

    helo: str
    """The name we say in EHLO, unless the target has one of its own."""
    tls: Tls
    timeouts: Timeouts = TIMEOUTS


async def open_session(target: Target, manners: Manners, *, ends_at: float = math.inf) -> Session | Ending:
    """Connect, greet, EHLO, STARTTLS, AUTH as the target asks, until ``ends_at`` (time.monotonic) at most.

    In clear text, on a new connection, after a failed opportunistic handshake.
    """
    session = await _connect(target, manners, ends_at)
    if isinstance(session, Ending) and session.state is State.STARTTLS:
        _tell_failure(target, session.text or session.result)
        # What a policy demands (MTA-STS, DANE) has raised the security beyond this.
        if target.security is Security.OPPORTUNISTIC:
            session = await _connect(target, manners, ends_at, in_clear=True)
    return session


def _tell_failure(target: Target, reason: str) -> None:
    """A host that does not fulfil its TLS policy concerns the operator: it may be an attack."""
    if target.policy is not None:
        FAILURES.labels(target.policy.basis).inc()
        log.warning("a host does not fulfil its TLS policy", host=target.host, policy=target.policy.basis, reason=reason)


async def _connect(target: Target, manners: Manners, ends_at: float, *, in_clear: bool = False) -> Session | Ending:
    loop = asyncio.get_running_loop()
    try:
        sock = _bind(target)
    except OSError as error:
        return Ending(State.BIND, Result.ERROR, text=f"{target.source}: {error.strerror or error}")
    try:
        async with asyncio.timeout(target.connect_timeout):
            await loop.sock_connect(sock, (target.address, target.port))
            _, protocol = await loop.create_connection(ReplyProtocol, sock=sock)
    except TimeoutError:
        sock.close()
        return Ending(State.CONNECT, Result.TIMEOUT)
    except OSError as error:
        sock.close()
        return Ending(State.CONNECT, Result.ERROR, text=f"{target.address}:{target.port}: {error.strerror or error}")
    except BaseException:
        sock.close()
        raise
    session = Session(protocol, target, manners.timeouts, remote_ip=target.address, ends_at=ends_at, last_used=time.monotonic())
    with suppress(OSError):
        session.local_ip = sock.getsockname()[0]
    try:
        trouble = await _introduce(session, target.helo or manners.helo, None if in_clear else manners.tls)
        if trouble is None and target.username is not None:
            trouble = await authenticate(session)
    except BaseException:
        protocol.abort()
        raise
    if trouble is not None:
        await session.quit()
        return replace(trouble, session=session)
    return session


def _bind(target: Target) -> socket.socket:
    """A socket with the source address. Raises OSError: uvloop's own error does not tell a bind from a connect."""
    sock = socket.socket(socket.AF_INET6 if ":" in target.address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.source is not None:
            # The port is chosen at connect: per destination, so that they do not run out (ip(7)).
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((target.source, 0))
    except OSError:
        sock.close()
        raise
    return sock


async def _introduce(session: Session, helo: str, tls: Tls | None) -> Ending | None:
    greeting = await session.read(State.INTRO, session.timeouts.greeting)
    if (ending := refusal_of(State.INTRO, greeting)) is not None:
        return ending
    if isinstance(greeting, Reply):
        session.mta = next(iter(greeting.description.split()), None)
    if (ending := await _hello(session, helo)) is not None:
        return ending
    security = session.target.security
    if tls is None or security is Security.OPTIONAL:
        return None
    if "STARTTLS" in session.extensions:
        return await _start_tls(session, helo, tls)
    policy = session.target.policy
    if security is Security.OPPORTUNISTIC:
        _tell_failure(session.target, "no TLS is offered")
        return None
    is_demanded = policy is not None and policy.basis is not Basis.MTA_STS_TESTING
    text = f"The host offers no TLS, which its {policy.basis} policy demands" if policy is not None and is_demanded else None
    return Ending(State.STARTTLS, Result.ERROR, text=text)


async def _hello(session: Session, helo: str) -> Ending | None:
    reply = await session.command(State.EHLO, f"EHLO {helo}", session.timeouts.ehlo)
    if isinstance(reply, Reply) and reply.is_permanent and session.is_usable:
        session.extensions = {}
        return refusal_of(State.HELO, await session.command(State.HELO, f"HELO {helo}", session.timeouts.ehlo))
    if (ending := refusal_of(State.EHLO, reply)) is not None:
        return ending
    if isinstance(reply, Reply):
        words = (line.partition(" ") for line in reply.text.split("\n")[1:])
        session.extensions = {name.upper(): rest.strip() for name, _, rest in words}
    return None


async def _start_tls(session: Session, helo: str, tls: Tls) -> Ending | None:
    target, protocol = session.target, session.protocol
    dane = target.policy.dane if target.policy is not None else None
    reply = await session.command(State.STARTTLS, "STARTTLS", session.timeouts.mail)
    if (ending := refusal_of(State.STARTTLS, reply)) is not None:
        return ending
    if not protocol.is_quiet:
        # What somebody on the way put behind the 220 must not be read as if it had come under TLS (RFC 3207 6).
        session.is_usable = False
        return Ending(State.STARTTLS, Result.INVALID, text="The host spoke on in clear after STARTTLS")
    session.is_usable = False
    server_name = _sni(dane.base if dane is not None else target.host)
    try:
        await protocol.begin_tls(tls.context, server_hostname=server_name, timeout=session.limit(session.timeouts.mail))
    except TimeoutError:
        return Ending(State.STARTTLS, Result.TIMEOUT)
    except Lost:
        return Ending(State.STARTTLS, Result.LOST)
    except (OSError, ValueError) as error:
        # ssl.SSLError is an OSError; a name that TLS cannot carry is a ValueError.
        return Ending(State.STARTTLS, Result.INVALID, text=f"TLS: {error or type(error).__name__}")
    session.is_usable = True
    transport: Any = protocol.transport
    name = target.certificate_name or target.host
    session.tls = tls.describe(transport.get_extra_info("ssl_object"), name, dane)
    certificate = session.tls.get("certificate", {})
    if not certificate.get("verified"):
        reason = certificate.get("result", "there is none")
        if dane is not None or target.security is Security.VERIFIED:
            by = f" by its {target.policy.basis} policy" if target.policy is not None else ""
            text = f"The certificate of {target.host} was not accepted{by}: {reason}"
            return Ending(State.STARTTLS, Result.INVALID, text=text)
        if target.policy is not None and target.policy.basis is Basis.MTA_STS_TESTING:
            _tell_failure(target, reason)
    return await _hello(session, helo)


def _sni(host: str) -> str | None:
    """Server name indication takes host names only: no addresses, and nothing odd that DNS may hold."""
    name = host.removesuffix(".")
    is_name = re.fullmatch(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}", name) is not None and len(name) <= 253
    return name if is_name and not name.rpartition(".")[2].isdecimal() else None
