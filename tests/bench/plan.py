"""What is measured: ways, sizes, numbers of messages. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

WAYS = {
    "a": "smtp-source → mailwarren → sink",
    "b": "JSON on outbox → smtp-sender → sink",
    "c": "smtp-source → Postfix → sink",
}
SIZES = (5, 100)
"""KB (1,000 octets) of text in a mail."""

_MESSAGES = {("a", 5): 5000, ("b", 5): 10000, ("c", 5): 5000, ("a", 100): 1500, ("b", 100): 3000, ("c", 100): 2000}
"""Per round: 5 to 10 seconds on two cores."""
_QUICK = 5
"""``--quick``: a fifth of them."""
_WARM_UP = 300


@dataclass(frozen=True, slots=True)
class Job:
    """One round of one way with one size."""

    way: str
    size: int
    """KB."""
    messages: int
    round: int
    """From 1; 0 is the warm-up, which does not count."""

    @property
    def domain(self) -> str:
        """Of all recipients of this round, and of no other's."""
        return f"{self.way}{self.size}-{self.round}.bench.example"

    @property
    def octets(self) -> int:
        """Of text in a mail."""
        return self.size * 1000

    @property
    def title(self) -> str:
        """For a line of progress."""
        name = f"round {self.round}" if self.round else "warm-up"
        return f"{name} ({self.way}) {self.size} KB"


def make_plan(ways: Sequence[str], sizes: Sequence[int], rounds: int, *, quick: bool) -> list[Job]:
    """All jobs in their order: a warm-up of each kind, then rounds in which the ways alternate."""
    kinds = [(way, size) for size in sizes for way in ways]
    jobs = [Job(way, size, _WARM_UP, 0) for way, size in kinds]
    for number in range(1, rounds + 1):
        jobs += [Job(way, size, _MESSAGES[way, size] // (_QUICK if quick else 1), number) for way, size in kinds]
    return jobs
