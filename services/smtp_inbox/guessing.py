"""Who has guessed wrong too often: failures per client address and per user within a window. Pure; time is an argument.

An address that a user has logged in from before counts apart, for that user alone: others who guess his name cannot lock him out
there, and the wrong password of one application cannot lock out the others behind its address.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from hashlib import blake2b
from ipaddress import IPv6Address, IPv6Network, ip_address

CAPACITY = 100_000
"""Addresses, users and pairs of both that are remembered at most, each; what is oldest is forgotten first."""


class Limit(Enum):
    """What has been reached."""

    NONE = auto()
    ADDRESS = auto()
    """Too many failures of the client's address."""
    USER = auto()
    """Too many failures for the user, from wherever."""


class Counts:
    """Failures per key since the first one of its window."""

    def __init__(self, window: timedelta, capacity: int = CAPACITY) -> None:
        self._window = window.total_seconds()
        self._capacity = capacity
        self._counts: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def get(self, key: Hashable, now: float) -> int:
        """How many there are at ``now`` (monotonic seconds)."""
        began, count = self._counts.get(key, (now, 0))
        return count if now - began < self._window else 0

    def add(self, key: Hashable, now: float) -> int:
        """One more; returns how many there are then."""
        count = self.get(key, now)
        if count:
            began = self._counts[key][0]
            self._counts[key] = (began, count + 1)
            return count + 1
        self._counts.pop(key, None)
        self._counts[key] = (now, 1)
        if len(self._counts) > self._capacity:
            self._counts.popitem(last=False)
        return 1

    def remove(self, key: Hashable) -> None:
        """Forget the failures of a key."""
        self._counts.pop(key, None)


@dataclass(slots=True)
class Guesses:
    """The failures of all clients of a process."""

    window: timedelta
    per_address: int
    """Failures of an address within the window, after which it is refused unheard; of a user at an address known for him, too."""
    per_user: int
    """Failures for a user within the window, after which he is refused unheard at addresses not known for him."""
    capacity: int = CAPACITY
    _addresses: Counts = field(init=False)
    _users: Counts = field(init=False)
    _pairs: Counts = field(init=False)
    _known: OrderedDict[tuple[str, bytes], None] = field(init=False, default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self._addresses, self._users, self._pairs = (Counts(self.window, self.capacity) for _ in range(3))

    def find_limit(self, client: str, user: str, now: float) -> Limit:
        """Whether this client may try the name of this user now (monotonic seconds)."""
        pair = _pair(client, user)
        if pair in self._known:
            return Limit.ADDRESS if self._pairs.get(pair, now) >= self.per_address else Limit.NONE
        if self._addresses.get(pair[0], now) >= self.per_address:
            return Limit.ADDRESS
        return Limit.USER if self._users.get(pair[1], now) >= self.per_user else Limit.NONE

    def add_failure(self, client: str, user: str, now: float) -> int:
        """Count a failure. Returns how many there are of this client now."""
        pair = _pair(client, user)
        if pair in self._known:
            return self._pairs.add(pair, now)
        self._users.add(pair[1], now)
        return self._addresses.add(pair[0], now)

    def add_success(self, client: str, user: str) -> None:
        """The user is known at this address from now on."""
        pair = _pair(client, user)
        self._pairs.remove(pair)
        self._known[pair] = None
        self._known.move_to_end(pair)
        if len(self._known) > self.capacity:
            self._known.popitem(last=False)


def _pair(client: str, user: str) -> tuple[str, bytes]:
    """The keys: names are of any length, and who has a /64 has all its addresses."""
    address = ip_address(client)
    if isinstance(address, IPv6Address):
        client = str(IPv6Network((int(address) >> 64 << 64, 64)))
    return client, blake2b(user.encode(), digest_size=16).digest()
