"""Recipients that get no mail: what an entry may say, and which one a recipient is on. Pure; tables that hold them are elsewhere.

An entry is ``{"name": "bob@example.org", "reason": "hard bounce", "expires": "2026-12-31 00:00:00"}``. Its name is an address, a domain
(``example.org`` or ``@example.org``: every address at it) or ``*.example.org`` (every address at a domain below it).
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from shared.mail.address import Mailbox, domain_to_ascii, parse_mailbox
from shared.wire.times import parse_time, render_time

FIELDS = ("name", "reason", "expires")
MOST_TEXT = 500
"""Characters of a reason or description."""

_ATOM = re.compile(r'[^\s"(),:;<>@\[\\\].]+(?:\.[^\s"(),:;<>@\[\\\].]+)*')


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of an entry besides its name. A million entries share few of these (``hold``)."""

    reason: str | None = None
    expires: datetime | None = None
    """None: never."""

    def is_over(self, now: datetime) -> bool:
        """Is the entry no longer in force?"""
        return self.expires is not None and now >= self.expires


@dataclass(frozen=True, slots=True)
class Suppression:
    """An entry of the list."""

    name: str
    """Folded: what is looked up."""
    held: Held

    @property
    def document(self) -> dict[str, Any]:
        """As it lies in the table, without the name."""
        return render_held(self.held)


@lru_cache(maxsize=4096)
def hold(reason: str | None, expires: str | None) -> Held:
    """What an entry says besides its name; the same object for the same words. Raises ValueError that begins with the field."""
    return Held(check_text("reason", reason), parse_expires(expires))


def parse_suppression(document: Mapping[str, Any]) -> Suppression:
    """An entry from ``{"name", "reason", "expires"}``. Raises ValueError that names the field, its value and what was expected."""
    name, reason, expires = (document.get(field) for field in FIELDS)
    if not isinstance(name, str):
        raise ValueError(f"name: {_show(name)}: expected an address, a domain, or *. and a domain")
    # Anything else than texts is said to be wrong, not looked up: it may not be hashable.
    if not isinstance(reason, str | None) or not isinstance(expires, str | None):
        check_text("reason", reason)
        parse_expires(expires)
    return Suppression(fold_name(name), hold(reason, expires))


def render_held(held: Held) -> dict[str, Any]:
    """An entry as it lies in the table, without the name."""
    shown = {"reason": held.reason, "expires": None if held.expires is None else render_time(held.expires)}
    return {key: value for key, value in shown.items() if value is not None}


def fold_name(name: str) -> str:
    """The one way to write a name: case, quotes and internationalized domains do not matter. Raises ValueError."""
    local, at, domain = name.rpartition("@")
    try:
        if local not in ("", "*"):
            return fold_mailbox(parse_mailbox(name))
        if not at and domain.startswith("*."):
            return "*." + fold_domain(domain[2:])
        return fold_domain(domain)
    except ValueError as error:
        raise ValueError(f"name: {name!r:.330}: expected an address, a domain, or *. and a domain: {error}") from None


def fold_mailbox(mailbox: Mailbox) -> str:
    """An address for comparison. Hosts may tell upper from lower case in a local part (RFC 5321 2.4); none that matters does."""
    return f"{_fold_local(mailbox)}@{fold_domain(mailbox.domain)}"


def _fold_local(mailbox: Mailbox) -> str:
    local = mailbox.local
    if local.startswith('"'):
        inner = re.sub(r"\\(.)", r"\1", local[1:-1])
        local = inner if _ATOM.fullmatch(inner) else local
    if not mailbox.is_ascii:
        local = unicodedata.normalize("NFC", unicodedata.normalize("NFC", local).lower())
    return local.lower()


def fold_domain(domain: str) -> str:
    """A domain for comparison: lower case, A-labels. Raises ValueError."""
    return domain_to_ascii(domain).lower()


def find_suppression(mailbox: Mailbox, entries: Mapping[str, Held], now: datetime) -> tuple[str, Held] | None:
    """(name, entry) that stops mail to ``mailbox``. Costs as many look-ups as its domain has labels, however many entries there are."""
    if not entries:
        return None
    domain = fold_domain(mailbox.domain)
    for name in (f"{_fold_local(mailbox)}@{domain}", domain, *parents(domain)):
        found = entries.get(name)
        if found is not None and not found.is_over(now):
            return name, found
    return None


def parents(domain: str) -> Iterator[str]:
    """``*.`` and each domain that this one is below: ``*.b.example`` and ``*.example`` for ``a.b.example``."""
    if domain.startswith("["):
        return
    place = domain.find(".")
    while place >= 0:
        yield "*" + domain[place:]
        place = domain.find(".", place + 1)


def parse_expires(value: Any) -> datetime | None:
    """When an entry ends; None: never. Raises ValueError."""
    if value is None:
        return None
    try:
        return parse_time(value)
    except ValueError as error:
        raise ValueError(f"expires: {_show(value)}: {error}") from None


def check_text(field: str, value: Any) -> str | None:
    """A text that may stand in logs, results and notifications; None when it is empty. Raises ValueError."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MOST_TEXT or not value.isprintable():
        raise ValueError(f"{field}: {_show(value)}: expected a text of at most {MOST_TEXT} printable characters")
    return value


def _show(value: Any) -> str:
    return "missing" if value is None else f"{value!r:.80}"
