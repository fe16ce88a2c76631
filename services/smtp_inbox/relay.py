"""Who may send to whom. Pure; no mistake in a setting may open a relay.

Clients that have authenticated and those in ``smtp-range`` may send to everybody, all others to local recipients only
(``shared.delivery.local_patterns``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

from shared.trouble import BadSetting

Network = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")
_INTERNET_4 = IPv4Network("0.0.0.0/0")
_INTERNET_6 = IPv6Network("2000::/3")
_MOST = 8
"""This part of the Internet and more are no clients of anybody: a slip of the prefix length."""
REMEMBERED = 1024
"""Clients whose addresses need not be parsed for each connection: that costs as much as its greeting."""


@dataclass(frozen=True, slots=True)
class RelayPolicy:
    """The networks whose clients may send to any recipient."""

    networks: tuple[Network, ...]

    def may_relay(self, client: str, user: str | None = None) -> bool:
        """Whether the client with this IP address may send to everybody. Not an IP address: it may not.

        ``user``: as whom it has authenticated.
        """
        if user:
            return True
        return _is_in(client, self.networks)

    @property
    def is_loopback_only(self) -> bool:
        """Nobody outside of this machine may relay."""
        return all(network.is_loopback for network in self.networks)


def decide_recipient(*, may_relay: bool, is_local: bool, is_routed: bool) -> str:
    """The reply that refuses a recipient; "": it is accepted.

    ``is_routed``: its local part names a further host (``user%host``, ``host!user``, ``"user@host"``). We never read it so, but
    local mail may go on to a server that does, so from strangers it is no local recipient (RFC 5321 3.6.1 allows to refuse it).
    """
    if may_relay or (is_local and not is_routed):
        return ""
    return "550 5.7.1 No routing by local parts" if is_local else "550 5.7.1 No relay for you"


def parse_relay_policy(ranges: Sequence[str], setting: str = "smtp-range") -> RelayPolicy:
    """The policy of a list of CIDRs or addresses. Raises BadSetting that names what is wrong."""
    networks: list[Network] = []
    for text in ranges:
        try:
            network = ip_network(text)
        except ValueError as error:
            raise BadSetting(f"{setting}: {text!r}: expected a CIDR such as 192.0.2.0/24 ({error})") from None
        networks.extend(_unmapped(network))
    check_not_open(networks, setting)
    return RelayPolicy(tuple(networks))


def check_not_open(networks: Sequence[Network], setting: str) -> None:
    """Raise BadSetting when an eighth of the IPv4 or IPv6 Internet or more is in the networks, in one piece or in many."""
    fours = list(collapse_addresses(network for network in networks if isinstance(network, IPv4Network)))
    sixes = list(collapse_addresses(network for network in networks if isinstance(network, IPv6Network)))
    for internet, parts in ((_INTERNET_4, fours), (_INTERNET_6, sixes)):
        held = 0
        for part in parts:
            if part.supernet_of(internet):  # type: ignore[arg-type]  # both of one version, by the lists above
                held += internet.num_addresses
            elif part.subnet_of(internet):  # type: ignore[arg-type]  # as above
                held += part.num_addresses
        if held * _MOST >= internet.num_addresses:
            raise BadSetting(
                f"{setting}: holds an eighth of the Internet or more (IPv{internet.version}): that would be an open relay"
            )


@lru_cache(REMEMBERED)
def _is_in(client: str, networks: tuple[Network, ...]) -> bool:
    try:
        address = normalize_address(client)
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in networks)


@lru_cache(REMEMBERED)
def normalize_address(text: str) -> IPv4Address | IPv6Address:
    """The address without a zone, and an IPv4 address that a dual-stack socket shows as IPv6 as IPv4. Raises ValueError."""
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _unmapped(network: Network) -> list[Network]:
    """The same clients, IPv4-mapped ranges written as IPv4: addresses are compared without the mapping."""
    if not isinstance(network, IPv6Network):
        return [network]
    if network.subnet_of(_MAPPED):
        return [IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))]
    return [network, _INTERNET_4] if network.supernet_of(_MAPPED) else [network]
