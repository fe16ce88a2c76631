"""The PROXY protocol, versions 1 and 2: a proxy in front of us tells whose connection it passes on.

The header is parsed by aiosmtpd. What is ours: not one octet behind it is read, for a TLS handshake may follow; it is bounded in octets
and in time; and only the peers in ``inbound-smtp-proxy-from`` are asked for it.
Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
"""

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import NamedTuple

from aiosmtpd.proxy_protocol import AF, PROTO, V2_CMD, get_proxy

from services.smtp_inbox.relay import RelayPolicy

# It logs on its own what we log with the peer's address.
logging.getLogger("mail.debug").setLevel(logging.CRITICAL)

MAX_V1 = 107
"""Octets of a header of version 1, CRLF included."""
MAX_V2 = 2048
"""Octets of a header of version 2 with all that a proxy may add (names, certificates' subjects)."""
TIMEOUT = 5.0
"""Seconds for a proxy to send its header."""


class BadHeader(Exception):
    """The peer sent something else than a header: nothing is said to it."""


class Remote(NamedTuple):
    """A client's end of a connection, which may be behind a proxy."""

    ip: str
    port: int
    is_proxy: bool = False
    """The proxy speaks for itself, or cannot say for whom: nobody has the rights of its address then."""


@dataclass(frozen=True, slots=True)
class Proxies:
    """The peers whose headers are believed."""

    policy: RelayPolicy
    """Parsed as those that may relay are: whoever can name any client may do all that any client may."""

    def __bool__(self) -> bool:
        return bool(self.policy.networks)

    def __contains__(self, ip: str) -> bool:
        return self.policy.may_relay(ip)


async def read_header(sock: socket.socket, timeout: float = TIMEOUT) -> Remote | None:
    """The client that the proxy speaks for; None: it speaks for itself, as health checks do (LOCAL), or it does not know (UNKNOWN).

    ``sock``: non-blocking; what follows the header stays in it. Raises BadHeader, or OSError when the connection broke.
    """
    try:
        async with asyncio.timeout(timeout):
            # The library reads what it needs and no more, as long as its reader does so.
            found = await get_proxy(_Octets(sock))
    except TimeoutError:
        raise BadHeader(f"no header within {timeout:g} s") from None
    if not found.valid:
        raise BadHeader(found.error or "not a header")
    if found.command == V2_CMD.LOCAL or found.family == AF.UNSPEC:
        return None
    if found.family not in (AF.INET, AF.INET6) or found.protocol != PROTO.STREAM:
        raise BadHeader("expected TCP over IPv4 or IPv6")
    return Remote(str(found.src_addr), found.src_port or 0)


class _Octets:
    """What the library reads from: exactly as much as it asks for, bounded."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._left = MAX_V2

    async def readexactly(self, count: int) -> bytes:
        octets = b""
        while len(octets) < count:
            octets += await self.read(count - len(octets))
        return octets

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        # Only version 1 asks for this, after its first five octets.
        line = b""
        while not line.endswith(separator):
            if len(line) > MAX_V1 - 5:
                raise BadHeader("too long")
            line += await self.read(1)
        return line

    async def read(self, count: int = 1) -> bytes:
        self._left -= count
        if self._left < 0:
            raise BadHeader("too long")
        try:
            octets = self._socket.recv(count)
        except BlockingIOError:
            octets = await self._loop.sock_recv(self._socket, count)
        if not octets:
            raise BadHeader("the connection ended")
        return octets
