"""Where does a mail for this domain go? DNS (RFC 5321 5.1, 7505), address literals, smarthosts, and which addresses are refused."""

import asyncio
import ipaddress
import random
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

MOST_ADDRESSES = 5
"""Addresses tried in one attempt."""


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
        self._resolver.timeout = min(lifetime, 3.0)
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
        for name in names:
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
        except dns.resolver.NoNameservers:
            return Ending(State.DNS, Result.TIMEOUT, text=f"{name}: the name servers answer with a failure (SERVFAIL)")
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            await self._check_reachable()
            return Ending(State.DNS, Result.TIMEOUT, text=f"{name}: {type(error).__name__}: no answer")
        return list(answer.rrset or [])

    async def _check_reachable(self) -> None:
        """Silence about one name is that domain's trouble; silence about the root is ours."""
        if time.monotonic() < self._alive_until:
            return
        try:
            await self._resolver.resolve(dns.name.root, dns.rdatatype.NS, raise_on_no_answer=False, lifetime=3.0)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoNameservers):
            pass
        except (dns.exception.DNSException, OSError) as error:
            raise Unavailable(f"no resolver answers: {error}") from None
        self._alive_until = time.monotonic() + 10


def parse_literal(domain: str) -> str | None:
    """The address in ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]``; None when the domain is a name."""
    if not domain.startswith("["):
        return None
    return str(ipaddress.ip_address(domain[1:-1].removeprefix("IPv6:")))


def decide_domain(recipient: Mailbox) -> str:
    """The domain to look up, in ASCII."""
    return domain_to_ascii(recipient.domain)


def is_allowed(address: str, allowed: Sequence[str]) -> bool:
    """May we connect to ``address`` on the word of DNS or of a message? Public addresses, and those in ``smtp-allow-private``."""
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped is not None:
        ip = mapped
    if ip.is_global and not ip.is_multicast:
        return True
    return any(ip in ipaddress.ip_network(network) for network in allowed if ip.version == ipaddress.ip_network(network).version)


def _server(server: str) -> dns.nameserver.Nameserver:
    host, separator, port = server.rpartition(":")
    if server.count(":") > 1 and not server.startswith("["):
        host, separator, port = server, "", ""
    try:
        address = str(ipaddress.ip_address((host if separator else server).strip("[]")))
        return dns.nameserver.Do53Nameserver(address, int(port) if separator else 53)
    except ValueError:
        raise BadSetting(f"dns-servers: {server!r}: expected ip or ip:port") from None
