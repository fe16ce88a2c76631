"""What is this machine alone?"""

import ipaddress


def is_loopback(host: str) -> bool:
    """Does ``host``, a name or an address without brackets, mean this machine alone?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
