"""Bad tokens, counted per address: who guesses is slowed down. Pure but for the clock; bounded in memory."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

BURST = 10
"""Bad tokens that an address may show at once."""
EVERY = 6.0
"""Seconds after which it may show one more."""
MOST = 10_000
"""Addresses, and pairs of address and token, that are remembered; beyond it the oldest is forgotten."""


class Guesses:
    """A bucket for each address, IPv6 by /64: a customer has that many addresses at least.

    A token that worked before from an address is looked up even while others from there are refused: behind one proxy or NAT, who
    guesses must not shut out everybody else. That helps nobody to guess: it was right already. Neither is the same bad token twice
    in a row a guess: a client with an old token must not shut out its neighbours.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds."""
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._worked: OrderedDict[tuple[str, str], None] = OrderedDict()

    def wait(self, address: str, digest: str) -> int:
        """Whole seconds until a token from ``address`` is looked at again; 0: now. ``digest``: of the token."""
        full_at, last = self._known.get(group_address(address), (0.0, ""))
        if last == digest or (address, digest) in self._worked:
            return 0
        over = full_at - self._clock() - (BURST - 1) * EVERY
        return max(0, math.ceil(over))

    def count(self, address: str, digest: str) -> None:
        """A bad token came from ``address``."""
        group, now = group_address(address), self._clock()
        full_at, last = self._known.get(group, (now, ""))
        if last == digest:
            return
        self._known[group] = max(full_at, now) + EVERY, digest
        self._known.move_to_end(group)
        while len(self._known) > MOST:
            self._known.popitem(last=False)

    def trust(self, address: str, digest: str) -> None:
        """A token from ``address`` was good."""
        pair = (address, digest)
        if pair in self._worked:
            return
        self._worked[pair] = None
        while len(self._worked) > MOST:
            self._worked.popitem(last=False)


def group_address(address: str) -> str:
    """What is counted as one: an IPv4 address, an IPv6 network of 64 bits."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is None:
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
