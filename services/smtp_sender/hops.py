"""Which hosts take a mail, and how they are spoken to: the message's smarthost, the operator's, or the MX of the domain."""

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from services.smtp_sender.dane import Found
from services.smtp_sender.mta_sts import Mode
from services.smtp_sender.mta_sts_client import StsClient
from services.smtp_sender.policy import FAILURES, Basis, Forbidden, decide_policy, raise_security
from services.smtp_sender.route import Host, Resolver, decide_domain, parse_literal
from services.smtp_sender.session import Ending, Target
from services.smtp_sender.settings import ServiceSettings
from shared.delivery.pools import Source
from shared.log import get_logger
from shared.reachable import is_allowed, is_own
from shared.trouble import BadSetting
from shared.wire.instructions import Instructions, Security, Smarthost
from shared.wire.result import Result, State

log = get_logger()


@dataclass(frozen=True, slots=True)
class NextHop:
    """Who takes the mail: a fixed host or the MX of the domain."""

    smarthost: Smarthost | None
    is_trusted: bool
    """Named by the operator: its address is not questioned."""


class Hops:
    """Next hops by the settings of this process."""

    def __init__(self, settings: ServiceSettings, resolver: Resolver | None, *, https_port: int = 443) -> None:
        """``resolver`` may be None only when everything goes to a sink. ``https_port``: of policy hosts. Raises BadSetting."""
        self._settings = settings
        self._resolver = resolver
        self._sts = None
        if settings.smtp_mta_sts and resolver is not None:
            self._sts = StsClient(resolver, settings.smtp_allow_private, settings.smtp_ca_file, port=https_port)
        self._operators_hop = _operators_hop(settings)
        self.fallback = _fallback_hop(settings)
        """Where mail goes whose refusal a response pattern calls worth another way; None = nowhere."""

    def decide(self, instructions: Instructions) -> NextHop:
        """Who takes this mail."""
        if self._settings.smtp_sink_address:
            return self._operators_hop
        if instructions.smarthost is not None:
            return NextHop(instructions.smarthost, is_trusted=False)
        return self._operators_hop

    async def find_hosts(self, instructions: Instructions, hop: NextHop) -> list[Host] | Ending:
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
        allowed = hosts if hop.is_trusted else self._allow(name, hosts)
        if isinstance(allowed, Ending) or literal is not None or self._security(instructions) is Security.OPTIONAL:
            return allowed
        return await self._apply_policies(name, allowed, hop)

    def _security(self, instructions: Instructions) -> Security:
        return instructions.security or self._settings.smtp_security

    async def _apply_policies(self, domain: str, hosts: list[Host], hop: NextHop) -> list[Host] | Ending:
        """The hosts with the TLS policy of each; without those that a policy rules out, or whose policy cannot be known."""
        sts = await self._sts.find(domain) if self._sts is not None and hop.smarthost is None else None
        published = await self._find_tlsa(hosts, hop)
        if sts is None and not published:
            return hosts
        kept: list[Host] = []
        refused: Ending | None = None
        for host in hosts:
            found = published.get(host.name)
            if isinstance(found, Ending):
                FAILURES.labels(Basis.DANE).inc()
                refused = replace(found, text=f"The TLSA records of {host.name} cannot be had. {found.text}")
                continue
            policy = decide_policy(host.name, domain, found, sts)
            if isinstance(policy, Forbidden):
                refused = _forbid(policy, domain)
                continue
            if sts is not None and sts.mode is Mode.TESTING and not sts.names(host.name):
                FAILURES.labels(Basis.MTA_STS_TESTING).inc()
                log.warning("the MTA-STS policy does not name the host", domain=domain, host=host.name, mode=sts.mode)
            kept.append(host if policy is None else replace(host, policy=policy))
        return kept or refused or hosts

    async def _find_tlsa(self, hosts: Sequence[Host], hop: NextHop) -> dict[str, Found | Ending | None]:
        """By name of host; empty when no host has anything that DNSSEC vouches for."""
        if not self._settings.smtp_dane or self._resolver is None:
            return {}
        # A smarthost's name is given, an MX must be proven.
        known = {host.name: host for host in hosts if host.is_proven or hop.smarthost is not None}
        secure = [host for host in known.values() if host.is_secure or host.alias_of]
        if not secure:
            return {}
        port = hop.smarthost.port if hop.smarthost else self._settings.smtp_port
        found = await asyncio.gather(*(self._resolver.find_tlsa(host, port) for host in secure))
        return {host.name: one for host, one in zip(secure, found, strict=True) if one is not None}

    def _allow(self, name: str, hosts: Sequence[Host]) -> list[Host] | Ending:
        """Those that may be connected to on the word of DNS or of a message: not ourselves, nothing private."""
        ours = self._settings.smtp_hostname.lower()
        found = [host for host in hosts if is_allowed(host.address, self._settings.smtp_allow_private)]
        if not found:
            log.warning("only private addresses", domain=name, addresses=[host.address for host in hosts][:5])
            text = f"{name} leads to private addresses only: {', '.join(host.address for host in hosts)[:200]}"
            return Ending(State.CONNECT, Result.ERROR, code=451, status="4.4.6", text=text)
        for index, host in enumerate(found):
            if host.name.lower() == ours or is_own(host.address):
                # RFC 5321 5.1: who is an MX itself uses only those before itself.
                del found[index:]
                break
        return found or Ending(State.DNS, Result.ERROR, code=554, status="5.4.6", text=f"mail for {name} leads back to this host")

    def target(self, host: Host, source: Source, instructions: Instructions, hop: NextHop) -> Target:
        """The session that the mail wants to this host."""
        settings, smarthost, policy = self._settings, hop.smarthost, host.policy
        security = raise_security(self._security(instructions), policy)
        is_known = smarthost is not None or host.is_proven or (policy is not None and policy.is_named)
        # An MX name from plain DNS proves nothing: whoever forges it has a certificate for it. Only the recipient's domain is known.
        is_unproven = security is Security.VERIFIED and not is_known
        return Target(
            host=host.name,
            address=host.address,
            port=smarthost.port if smarthost else settings.smtp_port,
            source=source.address,
            helo=source.helo,
            security=security,
            username=smarthost.username if smarthost else None,
            password=smarthost.password if smarthost else None,
            connect_timeout=settings.smtp_connect_timeout.total_seconds(),
            auth_clear=settings.smtp_auth_clear,
            certificate_name=decide_domain(instructions.recipient).strip("[]") if is_unproven else None,
            policy=policy,
        )


def _forbid(policy: Forbidden, domain: str) -> Ending:
    FAILURES.labels(Basis.MTA_STS).inc()
    log.warning("a host is left out", domain=domain, reason=policy.text)
    return Ending(State.STARTTLS, Result.INVALID, code=451, status="4.7.5", text=policy.text)


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


def _fallback_hop(settings: ServiceSettings) -> NextHop | None:
    # A sink takes everything: the mails of a test must not go anywhere else.
    if not settings.fallback_smarthost or settings.smtp_sink_address:
        return None
    return NextHop(Smarthost(settings.fallback_smarthost, settings.fallback_smarthost_port), is_trusted=True)


@lru_cache(maxsize=1024)
def _as_address(name: str) -> str | None:
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return None
