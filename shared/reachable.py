"""May we connect to this address on somebody else's word: DNS, a message, a URL?"""

import errno
import ipaddress
import socket
import time
from functools import lru_cache

GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
NEVER_PUBLIC = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv4Network("168.63.129.16/32"))
"""What ``ipaddress`` of Python 3.11.7 takes for global: the rest of RFC 6890's block, where one cloud has its metadata, and the address at
which another one's hosts tell their guests theirs."""


@lru_cache(maxsize=10_000)
def is_allowed(address: str, allowed: tuple[str, ...]) -> bool:
    """May we connect to ``address`` on the word of DNS, a message or a URL? Public addresses, and those in the networks ``allowed``."""
    ip = ipaddress.ip_address(address)
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped is not None:
        ip = mapped
    is_public = ip.is_global and not ip.is_multicast and not any(ip in network for network in NEVER_PUBLIC)
    if isinstance(ip, ipaddress.IPv6Address):
        # What is not in 2000::/3, and 6to4 and Teredo in it, may lead to an IPv4 address that we cannot judge (NAT64, compatible …).
        is_public = is_public and ip in GLOBAL_UNICAST and ip.sixtofour is None and ip.teredo is None
    return is_public or is_listed(str(ip), allowed)


def is_listed(address: str, networks: tuple[str, ...]) -> bool:
    """Is ``address`` in one of these networks (CIDRs)?"""
    ip = ipaddress.ip_address(address)
    return any(ip in ipaddress.ip_network(network) for network in networks)


def is_own(address: str) -> bool:
    """Is ``address`` a public one of this host's? Known for ten seconds."""
    return _is_own(address, int(time.monotonic() / 10))


@lru_cache(maxsize=10_000)
def _is_own(address: str, _period: int) -> bool:
    return ipaddress.ip_address(address).is_global and is_local(address)


def is_local(address: str) -> bool:
    """Is ``address`` one of this host's?"""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True
