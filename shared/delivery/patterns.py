"""Response patterns: what a reply means beyond its code. Which rule is the first that matches an attempt? Pure.

A pattern's conditions must all hold; of a condition's list any. The first pattern that matches decides; only when it gives no
class, the next one that does is asked for that. The patterns of the user's file come before the shipped ones
(``patterns.toml``), unless their ``priority`` says otherwise. ``patterns_file`` reads the files.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from shared.delivery.text_index import TextIndex
from shared.delivery.texts import fill_in
from shared.delivery.wildcards import matches
from shared.wire.result import MAX_DESCRIPTION, Attempt, Result, State

_STATUS_AT_START = re.compile(r"[#\s\[<(]*([245])\.([0-9]{1,3})\.([0-9]{1,3})(?!\.?[0-9])[\])>]*")
_STATUS_ELSEWHERE = re.compile(r"\(?#([245])\.([0-9]{1,3})\.([0-9]{1,3})(?!\.?[0-9])")


class BounceClass(StrEnum):
    """What was in the way, in one word: ``class`` in results."""

    BAD_MAILBOX = "bad-mailbox"
    """There is no such mailbox, or its address is malformed."""
    BAD_DOMAIN = "bad-domain"
    """The domain does not exist or accepts no mail."""
    INACTIVE_MAILBOX = "inactive-mailbox"
    """The mailbox exists and takes no mail: disabled, suspended, abandoned."""
    QUOTA = "quota"
    """The mailbox is full."""
    TOO_LARGE = "too-large"
    """The mail is over a limit of size."""
    BAD_CONTENT = "bad-content"
    """What is in the mail: malformed, a forbidden attachment, a virus, an encoding the peer cannot take."""
    BAD_SENDER = "bad-sender"
    """The sender's address or domain does not exist or is refused."""
    POLICY_SPAM = "policy-spam"
    """Taken for spam, by content or by reputation."""
    POLICY_BLOCKLIST = "policy-blocklist"
    """Our address or domain, or a domain in the mail, is on a block-list."""
    POLICY_AUTH = "policy-auth"
    """SPF, DKIM, DMARC, reverse DNS or the EHLO name."""
    POLICY = "policy"
    """Another rule of the peer's: restricted recipient, refused by an administrator."""
    RATE_LIMIT = "rate-limit"
    """Too many connections, messages or recipients, or too fast."""
    GREYLISTED = "greylisted"
    """Refused only because we are new: the same mail is taken later."""
    RELAY_DENIED = "relay-denied"
    """The host does not take mail for this domain, or not from us."""
    AUTH = "auth"
    """Our credentials at a smarthost, or that none were given."""
    TLS = "tls"
    """Encryption: missing, failed or not trusted."""
    PROTOCOL = "protocol"
    """The two sides do not understand each other: syntax, order of commands, a reply that is not SMTP."""
    ROUTING = "routing"
    """The mail cannot be passed on: a loop, no next hop, a wrongly configured host."""
    CAPACITY = "capacity"
    """The peer cannot at the moment: overloaded, disk full, shutting down, an error of its own."""
    DNS = "dns"
    """Name servers do not answer or fail."""
    CONNECTION = "connection"
    """No connection, or a lost one."""
    TIMEOUT = "timeout"
    """No answer in time."""
    SOURCE = "source"
    """No usable address of ours to send from."""
    SUPPRESSED = "suppressed"
    """On our suppression list."""
    EXPIRED = "expired"
    """Time or attempts ran out, with us or behind the peer."""
    UNKNOWN = "unknown"
    """Nothing is known about this reply."""


@dataclass(frozen=True, slots=True)
class Match:
    """What the first matching pattern says. None: it says nothing about that."""

    file: str
    """Path of the pattern's file as it was given; the shipped one is ``patterns.toml``."""
    number: int
    """Position of the pattern in its file, from 1."""
    name: str = ""
    bounce_class: BounceClass | None = None
    fatal: bool | None = None
    """True: never try again, also after a 4xx. False: try again, also after a 5xx."""
    individual: bool | None = None
    """True: concerns this mail only. False: the whole destination, which is then to be left alone for a while."""
    strange: bool | None = None
    """Counts towards leaving the host alone."""
    greylisted: bool | None = None
    """The next attempt is to come from the same source address (``find_greylisted_source``)."""
    fallback: bool | None = None
    """Go to the fallback smarthost, else to the next MX."""
    interval: timedelta | None = None
    """Wait before the next attempt, in place of the schedule's."""
    tags: tuple[str, ...] = ()
    """Added to the tags of the message."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    """Further properties of the result."""

    @property
    def rule(self) -> str:
        """Where the pattern stands: file, number and name."""
        return f"{self.file}, pattern {self.number}" + (f" ({self.name})" if self.name else "")

    @property
    def flags(self) -> Mapping[str, bool]:
        """The flags that the pattern sets, under their names on the wire."""
        flags = {
            "fatal": self.fatal,
            "individual": self.individual,
            "strange": self.strange,
            "greylisted": self.greylisted,
            "fallback": self.fallback,
        }
        return {name: value for name, value in flags.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Conditions:
    """When a pattern matches. An empty one always holds."""

    states: frozenset[State] = frozenset()
    results: frozenset[Result] = frozenset()
    codes: frozenset[int] = frozenset()
    statuses: tuple[tuple[range, range, range], ...] = ()
    """For class, subject and detail of the enhanced status code (RFC 3463) the numbers that will do."""
    texts: tuple[tuple[str, ...], ...] = ()
    """Of each the parts, case folded, in the order in which the text must have them."""
    regex: re.Pattern[str] | None = None
    destinations: tuple[str, ...] = ()
    """Domains of the recipient; ``*`` stands for any text."""
    hosts: tuple[str, ...] = ()
    """Names of the next hop (MX, smarthost)."""
    sources: tuple[IPv4Network | IPv6Network, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pattern:
    """A rule: when all ``conditions`` hold, ``match`` is what it says."""

    conditions: Conditions
    match: Match
    priority: int = 0
    """Lower is tried first."""
    written: Mapping[str, str] = field(default_factory=dict)
    """The conditions as they stand in the file."""

    def explain(self, attempt: Attempt) -> str:
        """Why it matches ``attempt``: its conditions, and of its texts only the one that was found."""
        folded = flatten(fill_in(attempt).description or "").casefold()
        found = next(("*".join(parts) for parts in self.conditions.texts if contains(folded, parts)), None)
        told = {**self.written} if found is None else {**self.written, "text": found}
        return ", ".join(f"{key} {value}" for key, value in told.items()) or "anything else"


@dataclass(frozen=True, slots=True)
class Subject:
    """What patterns look at."""

    state: State
    result: Result
    code: int | None
    status: tuple[int, int, int] | None
    text: str
    """In one line: RFC 5321 replies of several lines are joined, without the status that each repeats."""
    folded: str
    destination: str
    host: str
    source: str
    tags: Sequence[str]


@dataclass(frozen=True, slots=True)
class Patterns:
    """The patterns in force, in the order in which they are tried (``order_patterns``)."""

    patterns: tuple[Pattern, ...] = ()
    _index: TextIndex = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """File the texts."""
        object.__setattr__(self, "_index", TextIndex([pattern.conditions.texts for pattern in self.patterns]))

    def find(
        self,
        attempt: Attempt,
        *,
        destination: str = "",
        host: str | None = None,
        source: str | None = None,
        tags: Sequence[str] = (),
    ) -> Match | None:
        """What the first matching pattern says about ``attempt``; None for one that was accepted, or when none matches.

        ``destination``: domain of the recipient. ``host``: name of the next hop. ``source``: local address, default: that of the
        attempt. ``tags``: of the message. Where no peer spoke, code, status and text are those that the result will have.
        """
        found = self.find_all(attempt, destination=destination, host=host, source=source, tags=tags)
        if not found:
            return None
        first, last = found[0].match, found[-1].match
        return first if first is last else replace(first, bounce_class=last.bounce_class)

    def find_all(
        self,
        attempt: Attempt,
        *,
        destination: str = "",
        host: str | None = None,
        source: str | None = None,
        tags: Sequence[str] = (),
    ) -> tuple[Pattern, ...]:
        """The patterns that ``find`` goes by: the first that matches and, when that gives no class, the first that gives one."""
        if attempt.result is Result.ACCEPTED:
            return ()
        told = fill_in(attempt)
        text = flatten(told.description or "")
        subject = Subject(
            told.state,
            told.result,
            told.code,
            find_status(told.status, text),
            text,
            text.casefold(),
            destination,
            host or "",
            source or told.local_ip or "",
            tags,
        )
        first: Pattern | None = None
        for number in self._index.find_candidates(subject.folded):
            pattern = self.patterns[number]
            if (first is None or pattern.match.bounce_class is not None) and holds(pattern.conditions, subject):
                if pattern.match.bounce_class is not None:
                    return (pattern,) if first is None else (first, pattern)
                first = pattern
        return () if first is None else (first,)


def order_patterns(*files: Sequence[Pattern]) -> Patterns:
    """The patterns of the files by priority; where it is the same, in the order of the files and in them."""
    return Patterns(tuple(sorted((pattern for file in files for pattern in file), key=lambda pattern: pattern.priority)))


def flatten(description: str) -> str:
    """The words of a reply in one line, at most MAX_DESCRIPTION characters."""
    first, *others = description[:MAX_DESCRIPTION].split("\n")
    return " ".join(" ".join((first, *(_STATUS_AT_START.sub("", line, count=1) for line in others))).split())


def find_status(status: str | None, text: str) -> tuple[int, int, int] | None:
    """The enhanced status code: ``status``, else what the text begins with, else the ``#5.1.1`` that some put elsewhere."""
    found = _STATUS_AT_START.match(status or text) or _STATUS_ELSEWHERE.search(text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def holds(conditions: Conditions, subject: Subject) -> bool:
    """Do all conditions hold? The cheap ones first."""
    if conditions.states and subject.state not in conditions.states:
        return False
    if conditions.results and subject.result not in conditions.results:
        return False
    if conditions.codes and subject.code not in conditions.codes:
        return False
    if conditions.statuses and not _has_status(conditions.statuses, subject.status):
        return False
    if conditions.texts and not any(contains(subject.folded, parts) for parts in conditions.texts):
        return False
    if conditions.regex is not None and conditions.regex.search(subject.text) is None:
        return False
    if conditions.destinations and not any(matches(wanted, subject.destination) for wanted in conditions.destinations):
        return False
    if conditions.hosts and not any(matches(wanted, subject.host) for wanted in conditions.hosts):
        return False
    if conditions.sources and not _is_in(conditions.sources, subject.source):
        return False
    return not conditions.tags or any(matches(wanted, tag) for wanted in conditions.tags for tag in subject.tags)


def contains(text: str, parts: Sequence[str]) -> bool:
    """Has ``text`` all the parts, one after the other? Linear."""
    position = 0
    for part in parts:
        position = text.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return True


def find_greylisted_source(results: Sequence[Any]) -> str | None:
    """The source address that the next attempt must come from: the last of ``results`` was greylisted. None: any."""
    last = results[-1] if results else None
    if not isinstance(last, Mapping) or last.get("greylisted") is not True:
        return None
    source = last.get("from")
    return source if isinstance(source, str) else None


def _has_status(wanted: Sequence[tuple[range, range, range]], status: tuple[int, int, int] | None) -> bool:
    if status is None:
        return False
    return any(status[0] in one[0] and status[1] in one[1] and status[2] in one[2] for one in wanted)


def _is_in(networks: Sequence[IPv4Network | IPv6Network], source: str) -> bool:
    try:
        address = ip_address(source)
    except ValueError:
        return False
    return any(address in network for network in networks)
