"""Where does a mail for this domain go? DNS (RFC 5321 5.1, 7505), address literals, smarthosts, and which addresses are refused."""

import asyncio
import errno
import ipaddress
import random
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from services.smtp_sender.session import Ending
from shared.mail.address import Mailbox, domain_to_ascii
from shared.trouble import BadSetting, Unavailable
from shared.wire.result import Result, State

GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
MOST_ADDRESSES = 5
"""Addresses tried in one attempt."""
MOST_NAMES = 10
"""Mail exchangers looked up in one attempt: a domain may name a thousand that do not answer."""
_IMPOSSIBLE = (
    dns.name.BadEscape,
    dns.name.EmptyLabel,
    dns.name.IDNAException,
    dns.name.LabelTooLong,
    dns.name.NameTooLong,
    UnicodeError,
)


@dataclass(frozen=True, slots=True)
class Host:
    """One address of a next hop."""

    name: str
    address: str


class Resolver:
    """Look-ups with a cache that honours TTLs, negative answers too."""

    def __init__(self, servers: Sequence[str], lifetime: float) -> None:
        """``servers``: ``ip`` or ``ip:port``; empty = /etc/resolv.conf. Raises BadSetting."""
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        except dns.resolver.NoResolverConfiguration:
            raise BadSetting("dns-servers: /etc/resolv.conf names no resolver, and the setting is empty") from None
        if servers:
            self._resolver.nameservers = [_server(server) for server in servers]
        self._resolver.lifetime = lifetime
        # Of the lifetime, so that a dead resolver leaves time for the next one.
        self._resolver.timeout = min(lifetime / 2, 3.0)
        self._resolver.cache = dns.resolver.LRUCache(100_000)
        self._alive_until = 0.0

    async def find_hosts(self, domain: str) -> list[Host] | Ending:
        """The hosts that take mail for ``domain`` (ASCII), best first. Raises Unavailable when no resolver can be reached."""
        answer = await self._ask(domain, dns.rdatatype.MX)
        if isinstance(answer, Ending):
            return answer
        if not answer:
            hosts = await self.find_addresses(domain)
            if not isinstance(hosts, Ending) and not hosts:
                text = f"{domain} has no MX, no A and no AAAA record"
                return Ending(State.DNS, Result.ERROR, code=554, status="5.1.2", text=text)
            return hosts
        exchanges = [(int(record.preference), random.random(), str(record.exchange).rstrip(".")) for record in answer]  # noqa: S311 - shuffling
        if all(not name for _, _, name in exchanges):
            text = f"{domain} accepts no mail (null MX)"
            return Ending(State.DNS, Result.ERROR, code=556, status="5.1.10", text=text)
        return await self._addresses_of([name for _, _, name in sorted(exchanges) if name], domain)

    async def find_addresses(self, name: str) -> list[Host] | Ending:
        """A and AAAA of one host; empty when it has none."""
        four, six = await asyncio.gather(self._ask(name, dns.rdatatype.A), self._ask(name, dns.rdatatype.AAAA))
        found = [Host(name, str(record.address)) for answer in (four, six) if isinstance(answer, list) for record in answer]
        if found:
            return found
        troubles = [answer for answer in (four, six) if isinstance(answer, Ending)]
        return next((trouble for trouble in troubles if trouble.result is Result.TIMEOUT), troubles[0] if troubles else [])

    async def _addresses_of(self, names: Sequence[str], domain: str) -> list[Host] | Ending:
        hosts: list[Host] = []
        trouble: Ending | None = None
        for name in names[:MOST_NAMES]:
            found = await self.find_addresses(name)
            if isinstance(found, Ending):
                trouble = found if trouble is None or found.result is Result.TIMEOUT else trouble
            else:
                hosts += found
            if len(hosts) >= MOST_ADDRESSES:
                break
        if hosts:
            return hosts
        if trouble is not None and trouble.result is Result.TIMEOUT:
            return trouble
        text = f"no mail exchanger of {domain} has an address: {', '.join(names)[:200]}"
        return Ending(State.DNS, Result.ERROR, code=554, status="5.4.4", text=text)

    async def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> list[Any] | Ending:
        """The records; empty when the name has none of this kind."""
        try:
            answer = await self._resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return Ending(State.DNS, Result.ERROR, code=554, status="5.1.2", text=f"{name} does not exist")
        except _IMPOSSIBLE as error:
            text = f"{name[:200]!r} is no name that DNS can hold: {error}"
            return Ending(State.DNS, Result.ERROR, code=554, status="5.1.2", text=text)
        except dns.resolver.NoNameservers as error:
            if not _was_answered(error):
                await self._check_reachable()
            return Ending(State.DNS, Result.TIMEOUT, text=f"{name}: the name servers answer with a failure (SERVFAIL)")
        except (dns.exception.DNSException, OSError) as error:
            await self._check_reachable()
            return Ending(State.DNS, Result.TIMEOUT, text=f"{name}: {type(error).__name__}: no answer")
        return list(answer.rrset or [])

    async def _check_reachable(self) -> None:
        """Silence about one name is that domain's trouble; silence about the root is ours."""
        if time.monotonic() < self._alive_until:
            return
        try:
            await self._resolver.resolve(dns.name.root, dns.rdatatype.NS, raise_on_no_answer=False, lifetime=3.0)
        except dns.resolver.NXDOMAIN:
            pass
        except (dns.exception.DNSException, OSError) as error:
            if isinstance(error, dns.resolver.NoNameservers) and _was_answered(error):
                self._alive_until = time.monotonic() + 10
                return
            raise Unavailable(f"no resolver answers: {error}") from None
        self._alive_until = time.monotonic() + 10


def _was_answered(error: dns.resolver.NoNameservers) -> bool:
    """Did any resolver say anything (SERVFAIL, REFUSED)? Otherwise the trouble is ours: no way to any of them."""
    return any(response is not None for *_, response in error.kwargs.get("errors", ()))


def parse_literal(domain: str) -> str | None:
    """The address in ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]``; None when the domain is a name."""
    if not domain.startswith("["):
        return None
    inner = domain[1:-1]
    return str(ipaddress.ip_address(inner[5:] if inner[:5].lower() == "ipv6:" else inner))


def decide_domain(recipient: Mailbox) -> str:
    """The domain to look up, in ASCII."""
    return domain_to_ascii(recipient.domain)


def is_allowed(address: str, allowed: Sequence[str]) -> bool:
    """May we connect to ``address`` on the word of DNS or of a message? Public addresses, and those in ``smtp-allow-private``."""
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped is not None:
        ip = mapped
    is_public = ip.is_global and not ip.is_multicast
    if isinstance(ip, ipaddress.IPv6Address):
        # What is not in 2000::/3, and 6to4 and Teredo in it, may lead to an IPv4 address that we cannot judge (NAT64, compatible …).
        is_public = is_public and ip in GLOBAL_UNICAST and ip.sixtofour is None and ip.teredo is None
    if is_public:
        return True
    return any(ip in ipaddress.ip_network(network) for network in allowed if ip.version == ipaddress.ip_network(network).version)


def is_local(address: str) -> bool:
    """Is ``address`` one of this host's?"""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def _server(server: str) -> dns.nameserver.Nameserver:
    host, separator, port = server.rpartition(":")
    if server.count(":") > 1 and not server.startswith("["):
        host, separator, port = server, "", ""
    try:
        address = str(ipaddress.ip_address((host if separator else server).strip("[]")))
        return dns.nameserver.Do53Nameserver(address, int(port) if separator else 53)
    except ValueError:
        raise BadSetting(f"dns-servers: {server!r}: expected ip or ip:port") from None
