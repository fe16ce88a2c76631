"""What is measured: ways, sizes, numbers of messages. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

MANY, ACCEPTING, RECORDING = "e", "f", "g"
"""The ways that are not measured in rounds."""
CELERY = "h"
"""The way through somebody else's workers at our broker."""
PACED, SCALING, BACKLOG = "i", "j", "k"
"""How soon, with how many processes, out of how much: not in rounds that alternate with Postfix."""
WAYS = {
    "a": "smtp-source → mailwarren → sink",
    "b": "JSON on outbox → smtp-sender → sink",
    "c": "smtp-source → Postfix → sink",
    "d": "JSON on outbox → smtp-sender, DKIM → sink",
    MANY: "JSON to many domains → smtp-sender → their hosts",
    ACCEPTING: "SMTP → 250 and HTTP → 202",
    RECORDING: "backlog of records → result-recorder → Postgres",
    CELERY: "JSON task → Celery worker, smtplib → sink",
    PACED: "SMTP at half load: from 250 to the sink",
    SCALING: "two smtp-senders against one",
    BACKLOG: "a large backlog in outbox",
}
NOT_BY_DEFAULT = frozenset({BACKLOG})
"""Takes a quarter of an hour and many GB of disk: only when asked for."""
SCALE = "smtp-sender=2"
"""Copies of our processes. The process that does most of the work gets both cores; Postfix starts as many as it has deliveries."""
OUR_WAYS = frozenset(WAYS) - {"c", CELERY}
"""The ways through our processes."""
SIZES = (5, 100)
"""KB (1,000 octets) of text in a mail."""

_MESSAGES = {
    ("a", 5): 5000,
    ("b", 5): 10000,
    ("c", 5): 5000,
    ("d", 5): 10000,
    (CELERY, 5): 8000,
    ("a", 100): 1500,
    ("b", 100): 3000,
    ("c", 100): 2000,
}
"""Per round: 5 to 10 seconds on two cores."""
_CROWD = (1000, 100_000)
_QUICK_CROWD = (200, 10_000)
"""Domains and messages of (e)."""
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
    large: int = 0
    """Octets of the one mail in the middle that is larger; 0: there is none."""

    @property
    def domain(self) -> str:
        """Of all recipients of this round, and of no other's."""
        return f"{self.way}{self.size}-{self.round}{'-large' if self.large else ''}.bench.example"

    @property
    def octets(self) -> int:
        """Of text in a mail."""
        return self.size * 1000

    @property
    def title(self) -> str:
        """For a line of progress."""
        name = f"round {self.round}" if self.round else "warm-up"
        return f"{f'one mail of {self.large / 1e6:.0f} MB in' if self.large else name} ({self.way}) {self.size} KB"


@dataclass(frozen=True, slots=True)
class Crowd:
    """What (e) queues at a time: mails to many domains, in turn."""

    domains: int
    messages: int
    has_tarpit: bool
    """One of the domains has a tarpit for a host."""
    turn: int = 1
    """From 1: which of those with, or of those without a tarpit."""
    octets: int = 5000
    """Of text in a mail."""

    @property
    def parent(self) -> str:
        """The domain above all of these."""
        return f"{MANY}-{'tarpit' if self.has_tarpit else 'well'}-{self.turn}.bench.example"

    @property
    def title(self) -> str:
        """For a line of progress."""
        return f"({MANY}) {self.domains:,} domains, {'one tarpitted' if self.has_tarpit else 'all well'}, {self.turn}"


def make_plan(ways: Sequence[str], sizes: Sequence[int], rounds: int, *, quick: bool) -> list[Job]:
    """All jobs in their order: a warm-up of each kind, then rounds in which the ways alternate."""
    kinds = [(way, size) for size in sizes for way in ways if (way, size) in _MESSAGES]
    jobs = [Job(way, size, _WARM_UP, 0) for way, size in kinds]
    for number in range(1, rounds + 1):
        jobs += [Job(way, size, _MESSAGES[way, size] // (_QUICK if quick else 1), number) for way, size in kinds]
    return jobs


def make_crowds(*, quick: bool) -> list[Crowd]:
    """What (e) measures: well, tarpit, tarpit, well. So a machine that gets slower or fuller counts for both alike."""
    domains, messages = _QUICK_CROWD if quick else _CROWD
    return [Crowd(domains, messages, has_tarpit, turn) for has_tarpit, turn in ((False, 1), (True, 1), (True, 2), (False, 2))]
