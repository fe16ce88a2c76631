"""Which mail a pause or a forced error is about: its destination, a tag, a pool. Pure.

All conditions that are given must be met. Looking up costs the same with ten entries and with ten thousand, but for those with a ``*``
elsewhere than in front.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from shared.delivery.suppressions import fold_domain, parents
from shared.delivery.wildcards import matches
from shared.wire.instructions import Instructions
from shared.wire.message import Message

FIELDS = ("destination", "tag", "pool")
MOST_NAME = 400
"""Characters of the name of an entry."""

_WILDCARD = re.compile(r"[a-z0-9.*_-]+")


@dataclass(frozen=True, slots=True)
class Conditions:
    """None: does not matter."""

    destination: str | None
    """Domain of the recipient, folded, or with ``*`` for any text."""
    tag: str | None
    pool: str | None

    @property
    def document(self) -> dict[str, str]:
        """Those that are given, as they stand in an entry."""
        return {field: value for field in FIELDS if (value := getattr(self, field)) is not None}

    @property
    def name(self) -> str:
        """What an entry with these conditions is called when nobody gave it a name: ``example.org tag=news``."""
        further = [f"{field}={value}" for field, value in (("tag", self.tag), ("pool", self.pool)) if value is not None]
        return " ".join([*([] if self.destination is None else [self.destination]), *further])

    @property
    def weight(self) -> tuple[int, bool, int]:
        """More is more specific: further conditions, then a destination without ``*``, then a longer one."""
        destination = self.destination if self.destination != "*" else None
        given = sum(value is not None for value in (destination, self.tag, self.pool))
        return given, destination is not None and "*" not in destination, len(destination or "")


@dataclass(frozen=True, slots=True)
class Subject:
    """What conditions are compared with."""

    domain: str
    """Folded."""
    tags: tuple[str, ...]
    pool: str | None
    """The one that the mail is sent from."""


class Entry(Protocol):
    """A pause, a forced error."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def conditions(self) -> Conditions:
        """Which mail it is about."""

    @property
    def expires(self) -> datetime | None:
        """When it ends; None: never."""


E = TypeVar("E", bound=Entry)


class Index(Generic[E]):
    """Entries, filed by what must be met."""

    def __init__(self, entries: Sequence[E] = ()) -> None:
        self.entries = entries
        self._by_destination: dict[str, list[E]] = defaultdict(list)
        self._by_tag: dict[str, list[E]] = defaultdict(list)
        self._by_pool: dict[str, list[E]] = defaultdict(list)
        self._others: list[E] = []
        for entry in entries:
            conditions = entry.conditions
            destination = conditions.destination
            if destination is not None and "*" not in destination.removeprefix("*."):
                self._by_destination[destination].append(entry)
            elif conditions.tag is not None:
                self._by_tag[conditions.tag].append(entry)
            elif conditions.pool is not None:
                self._by_pool[conditions.pool].append(entry)
            else:
                self._others.append(entry)

    def find(self, subject: Subject, now: datetime) -> list[E]:
        """Those in force that are about the mail, the most specific first."""
        if not self.entries:
            return []
        found = [entry for entry in self._candidates(subject) if _is_met(entry.conditions, subject) and _is_in_force(entry, now)]
        return sorted(found, key=lambda entry: (entry.conditions.weight, entry.name), reverse=True)

    def _candidates(self, subject: Subject) -> Iterator[E]:
        if self._by_destination:
            for name in (subject.domain, *parents(subject.domain)):
                yield from self._by_destination.get(name, ())
        for tag in dict.fromkeys(subject.tags):
            yield from self._by_tag.get(tag, ())
        if subject.pool is not None:
            yield from self._by_pool.get(subject.pool, ())
        yield from self._others


def parse_conditions(document: Mapping[str, Any]) -> tuple[str, Conditions]:
    """(name, conditions) of an entry. Raises ValueError that names the field, its value and what was expected."""
    conditions = Conditions(
        _parse_destination(document.get("destination")), *(_parse_text(document, field) for field in FIELDS[1:])
    )
    if not conditions.document:
        raise ValueError(
            'destination: missing: expected at least one of destination, tag and pool; the destination "*" is all mail'
        )
    name = document.get("name")
    if name is None:
        return conditions.name, conditions
    if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME or not name.isprintable() or name in (".", ".."):
        raise ValueError(f"name: {name!r:.80}: expected a text of 1 to {MOST_NAME} printable characters, not . or ..")
    return name, conditions


def describe(message: Message, instructions: Instructions) -> Subject:
    """The mail as conditions see it."""
    tags = message.document.get("tags")
    named = tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()
    # Addresses of its own win over the pool (messages say so): the mail is not sent from the pool then.
    pool = instructions.pool if instructions.source_addresses is None else None
    return Subject(fold_domain(instructions.recipient.domain), named, pool)


def _is_met(conditions: Conditions, subject: Subject) -> bool:
    if conditions.tag is not None and conditions.tag not in subject.tags:
        return False
    if conditions.pool is not None and conditions.pool != subject.pool:
        return False
    return conditions.destination is None or matches(conditions.destination, subject.domain)


def _is_in_force(entry: Entry, now: datetime) -> bool:
    return entry.expires is None or now < entry.expires


def _parse_destination(value: Any) -> str | None:
    if value is None:
        return None
    expected = "expected a domain, with * for any text (*.example.org), or * for all mail"
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        raise ValueError(f"destination: {value!r:.80}: {expected}")
    prefix = "*." if value.startswith("*.") else ""
    rest = value.removeprefix(prefix)
    if "*" in rest:
        if not _WILDCARD.fullmatch(value.lower()):
            raise ValueError(f"destination: {value!r:.260}: {expected}")
        return value.lower()
    try:
        return prefix + fold_domain(rest)
    except ValueError as error:
        raise ValueError(f"destination: {value!r:.260}: {expected}: {error}") from None


def _parse_text(document: Mapping[str, Any], field: str) -> str | None:
    value = document.get(field)
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable()):
        raise ValueError(f"{field}: {value!r:.80}: expected a text of 1 to 200 printable characters")
    return value
