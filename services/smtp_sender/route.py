"""Where does a mail for this domain go? DNS (RFC 5321 5.1, 7505), address literals, smarthosts, and which addresses are refused."""

import asyncio
import ipaddress
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import dns.nameserver
import dns.rdatatype
import dns.resolver

from services.smtp_sender.dane import Found
from services.smtp_sender.lookup import Lookups
from services.smtp_sender.policy import Policy
from services.smtp_sender.session import Ending
from shared.mail.address import Mailbox, domain_to_ascii
from shared.trouble import BadSetting
from shared.wire.result import Result, State

MOST_ADDRESSES = 5
"""Addresses tried in one attempt."""
MOST_NAMES = 10
"""Mail exchangers looked up in one attempt: a domain may name a thousand that do not answer."""


@dataclass(frozen=True, slots=True)
class Host:
    """One address of a next hop."""

    name: str
    address: str
    is_proven: bool = False
    """DNSSEC says that this host is a next hop of the domain."""
    is_secure: bool = False
    """DNSSEC says that this is its address."""
    alias_of: str | None = None
    """The name behind its CNAMEs."""
    policy: Policy | None = None
    """What its domain demands of TLS."""


class Resolver:
    """Finds next hops and what is published about them."""

    def __init__(
        self,
        servers: Sequence[str],
        lifetime: float,
        *,
        validates: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``servers``: ``ip`` or ``ip:port``; empty = /etc/resolv.conf. ``validates``: their word about DNSSEC is believed.

        Raises BadSetting.
        """
        try:
            self._lookups = Lookups([_server(server) for server in servers], lifetime, validates=validates, clock=clock)
        except dns.resolver.NoResolverConfiguration:
            raise BadSetting("dns-servers: /etc/resolv.conf names no resolver, and the setting is empty") from None

    async def find_hosts(self, domain: str) -> list[Host] | Ending:
        """The hosts that take mail for ``domain`` (ASCII), best first. Raises Unavailable when no resolver can be reached."""
        answer = await self._lookups.ask(domain.lower(), dns.rdatatype.MX)
        if answer.trouble is not None:
            return answer.trouble
        if not answer.records:
            hosts = await self.find_addresses(domain)
            if not isinstance(hosts, Ending) and not hosts:
                text = f"{domain} has no MX, no A and no AAAA record"
                return Ending(State.DNS, Result.ERROR, code=554, status="5.1.2", text=text)
        else:
            shuffled = ((preference, random.random(), name) for preference, name in answer.records if name)  # noqa: S311
            exchanges = sorted(shuffled)
            if not exchanges:
                text = f"{domain} accepts no mail (null MX)"
                return Ending(State.DNS, Result.ERROR, code=556, status="5.1.10", text=text)
            hosts = await self._addresses_of([name for _, _, name in exchanges], domain)
        if answer.is_secure and not isinstance(hosts, Ending):
            return [replace(host, is_proven=True) for host in hosts]
        return hosts

    async def find_addresses(self, name: str) -> list[Host] | Ending:
        """A and AAAA of one host; empty when it has none. Raises Unavailable."""
        key, a, aaaa = name.lower(), dns.rdatatype.A, dns.rdatatype.AAAA
        four, six = self._lookups.peek(key, a), self._lookups.peek(key, aaaa)
        if four is None and six is None:
            four, six = await asyncio.gather(self._lookups.ask(key, a), self._lookups.ask(key, aaaa))
        four = four or await self._lookups.ask(key, a)
        six = six or await self._lookups.ask(key, aaaa)
        found = [
            Host(name, address, is_secure=answer.is_secure, alias_of=answer.alias_of)
            for answer in (four, six)
            for address in answer.records
        ]
        if found:
            return found
        troubles = [answer.trouble for answer in (four, six) if answer.trouble is not None]
        return next((trouble for trouble in troubles if trouble.result is Result.TIMEOUT), troubles[0] if troubles else [])

    async def find_texts(self, name: str) -> tuple[bytes, ...] | Ending:
        """The TXT records of a name; empty when it has none. Raises Unavailable."""
        answer = await self._lookups.ask(name.lower(), dns.rdatatype.TXT)
        return answer.trouble or answer.records

    async def find_tlsa(self, host: Host, port: int) -> Found | Ending | None:
        """The validated TLSA records of a host (RFC 7672 2.2); None: it has none, or nothing about it is secure.

        An Ending: they cannot be looked up or are forged, so nobody can tell that there are none. Raises Unavailable.
        """
        if host.is_secure:
            bases = [host.alias_of, host.name] if host.alias_of else [host.name]
        elif host.alias_of:
            # The alias may be signed when what it leads to is not (RFC 7672 2.2.2).
            alias = await self._lookups.ask(host.name.lower(), dns.rdatatype.CNAME)
            if alias.is_broken:
                return alias.trouble
            bases = [host.name] if alias.is_secure else []
        else:
            bases = []
        for base in bases:
            answer = await self._lookups.ask(f"_{port}._tcp.{base.lower()}", dns.rdatatype.TLSA)
            if answer.is_broken:
                return answer.trouble
            if answer.is_secure and answer.records:
                return Found(base, answer.records)
        return None

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


def parse_literal(domain: str) -> str | None:
    """The address in ``[192.0.2.1]`` or ``[IPv6:2001:db8::1]``; None when the domain is a name."""
    if not domain.startswith("["):
        return None
    inner = domain[1:-1]
    return str(ipaddress.ip_address(inner[5:] if inner[:5].lower() == "ipv6:" else inner))


def decide_domain(recipient: Mailbox) -> str:
    """The domain to look up, in ASCII."""
    return domain_to_ascii(recipient.domain)


def _server(server: str) -> dns.nameserver.Nameserver:
    host, separator, port = server.rpartition(":")
    if server.count(":") > 1 and not server.startswith("["):
        host, separator, port = server, "", ""
    try:
        address = str(ipaddress.ip_address((host if separator else server).strip("[]")))
        return dns.nameserver.Do53Nameserver(address, int(port) if separator else 53)
    except ValueError:
        raise BadSetting(f"dns-servers: {server!r}: expected ip or ip:port") from None
