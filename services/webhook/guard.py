"""Which address of an endpoint is connected to: never one that only this machine or its network should reach.

A URL is somebody's word, and so is DNS. Every address is judged, and the one that was judged is the one connected to: the name is not
looked up again.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from services.webhook.settings import ServiceSettings
from shared.reachable import is_allowed, is_listed, is_own

MOST_ADDRESSES = 3
"""Tried in one attempt."""
LOOKUP_PATIENCE = 10.0
"""Seconds for a name."""

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]


class Forbidden(Exception):
    """Nothing is posted there, with the reason."""


class Unresolved(Exception):
    """The name has no address now, with the reason."""


async def look_up(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as the system finds them. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Guard:
    """Finds the addresses of URLs that may be connected to."""

    def __init__(self, settings: ServiceSettings, lookup: Lookup = look_up) -> None:
        """``lookup``: name and port → addresses; raises OSError."""
        self._settings = settings
        self._lookup = lookup

    async def find_addresses(self, url: str) -> list[str]:
        """At least one. Raises Forbidden or Unresolved."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
        if parts.scheme == "http" and not self._settings.webhook_allow_http:
            raise Forbidden("http is not posted to: expected https, or the setting webhook-allow-http")
        try:
            # What is no address for ``ipaddress`` may be one for the system (2130706433, 0x7f.1): what that finds is what is judged.
            addresses: Sequence[str] = [str(ipaddress.ip_address(host))]
        except ValueError:
            try:
                async with asyncio.timeout(LOOKUP_PATIENCE):
                    addresses = await self._lookup(host, port)
            except (OSError, UnicodeError) as error:
                raise Unresolved(f"{host} is not found: {error or type(error).__name__}") from None
        allowed = self._settings.webhook_allow_private
        fine = [one for one in addresses if is_allowed(one, allowed) and (not is_own(one) or is_listed(one, allowed))]
        if not fine:
            raise Forbidden(f"{host} leads to private addresses, or ours, only")
        return fine[:MOST_ADDRESSES]
