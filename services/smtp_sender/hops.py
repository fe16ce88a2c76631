"""Which hosts take a mail, and how they are spoken to: the message's smarthost, the operator's, or the MX of the domain."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from services.smtp_sender.route import Host, Resolver, decide_domain, is_allowed, is_local, parse_literal
from services.smtp_sender.session import Ending, Target
from services.smtp_sender.settings import ServiceSettings
from shared.log import get_logger
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

    def __init__(self, settings: ServiceSettings, resolver: Resolver | None) -> None:
        """``resolver`` may be None only when everything goes to a sink. Raises BadSetting."""
        self._settings = settings
        self._resolver = resolver
        self._operators_hop = _operators_hop(settings)

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

    def target(self, host: Host, source: str | None, instructions: Instructions, hop: NextHop) -> Target:
        """The session that the mail wants to this host."""
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
