"""Which recipients are local: whose mail is for us, whoever sends it. Pure.

A pattern is a domain (``example.com``: all of its addresses), an address (``info@example.com``), an address with wildcards
(``bounce-*@example.com``, ``*@*.example.com``; ``*`` is any text) or a regular expression between slashes
(``/(sales|info)\\+[a-z]+@example\\.com/``) that must match the whole address.

Addresses are compared without regard to case, domains as they stand in the DNS (A-labels), quoted local parts without their quotes.
A pattern that would take the addresses of strangers' domains is refused: it would make an open relay (``shared.delivery.strangers``).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from shared.delivery.patterns_regex import compile_regex
from shared.delivery.strangers import find_public_part, find_stranger
from shared.delivery.wildcards import AnyOf, compile_patterns, fold_address
from shared.mail.address import InvalidAddress, Mailbox, domain_to_ascii, parse_mailbox

MOST_REGEXES = 50
"""Regular expressions in force at once: each is tried for every recipient that nothing else takes."""
MOST_WILDCARDS = 1000
"""Wildcards in the domain that are in force at once; others are found by their domain."""
MAX_PATTERN = 1024
"""Characters of a pattern."""


class Kind(Enum):
    """The forms of a pattern."""

    DOMAIN = "domain"
    ADDRESS = "address"
    WILDCARD = "wildcard"
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class LocalPattern:
    """One pattern."""

    kind: Kind
    text: str
    """As it is compared: lower case, the domain in A-labels. A regular expression as it was written."""
    local: str = ""
    domain: str = ""
    regex: re.Pattern[str] | None = None

    @property
    def sample(self) -> str | None:
        """An address that it takes; None for a regular expression."""
        if self.kind is Kind.REGEX:
            return None
        return f"{(self.local or '*').replace('*', 'x')}@{self.domain.replace('*', 'x')}"


@dataclass(frozen=True, slots=True)
class LocalPatterns:
    """Patterns, filed so that a look-up takes as long with many as with few."""

    patterns: frozenset[str]
    """All of them, as text."""
    domains: frozenset[str]
    addresses: frozenset[tuple[str, str]]
    by_domain: Mapping[str, AnyOf]
    """Domain → local parts with wildcards."""
    wildcards: tuple[tuple[AnyOf, AnyOf], ...]
    """(local part, domain), a wildcard in the domain."""
    regexes: tuple[re.Pattern[str], ...]

    def hold(self, mailbox: Mailbox) -> bool:
        """Is this recipient local?"""
        local, domain = normalize_mailbox(mailbox)
        return (
            domain in self.domains
            or (local, domain) in self.addresses
            or (domain in self.by_domain and self.by_domain[domain].matches((local,)))
            or any(at.matches((domain,)) and pattern.matches((local,)) for pattern, at in self.wildcards)
            or any(regex.fullmatch(f"{local}@{domain}") for regex in self.regexes)
        )


@dataclass(frozen=True, slots=True)
class LocalEntry:
    """A pattern as it is kept in Postgres (table ``locals``)."""

    pattern: LocalPattern
    document: Mapping[str, Any] = field(default_factory=dict)
    """Everything but the name, which is the pattern's text."""

    @property
    def name(self) -> str:
        """The key of its row."""
        return self.pattern.text


FIELDS = ("name", "reason")
"""What a document of the table may say."""
MAX_REASON = 1024
"""Characters of a reason."""

NO_PATTERNS = LocalPatterns(frozenset(), frozenset(), frozenset(), {}, (), ())


def parse_local_pattern(text: str, *, domains_only: bool = False) -> LocalPattern:
    """Read a pattern. ``domains_only``: it must be a domain, perhaps with wildcards. Raises ValueError: what was expected."""
    pattern = _parse(text.strip(), domains_only=domains_only)
    _refuse_strangers(pattern)
    return pattern


def _parse(text: str, *, domains_only: bool = False) -> LocalPattern:
    if not text or len(text) > MAX_PATTERN:
        raise ValueError(f"expected a pattern of 1 to {MAX_PATTERN} characters")
    if "@" not in text and not text.startswith("/"):
        return _parse_at("*", text)
    if domains_only:
        raise ValueError("expected a domain, such as example.com or *.example.com")
    if text.startswith("/"):
        return _parse_regex(text)
    local, _, domain = text.rpartition("@")
    if not local:
        raise ValueError("expected local-part@domain")
    return _parse_at(local, domain)


def parse_local(document: Mapping[str, Any]) -> LocalEntry:
    """An entry from ``{"name": pattern, "reason": text}``. Raises ValueError that begins with the field."""
    name, reason = document.get("name"), document.get("reason")
    if not isinstance(name, str):
        raise ValueError(f"name: {name!r:.80}: expected a domain, an address, one with wildcards, or /a regular expression/")
    if reason is not None and (not isinstance(reason, str) or len(reason) > MAX_REASON or not reason.isprintable()):
        raise ValueError(f"reason: {reason!r:.80}: expected a text of at most {MAX_REASON} printable characters")
    return LocalEntry(_read_name(name, parse_local_pattern), {} if reason is None else {"reason": reason})


def fold_local_name(name: str) -> str:
    """The name of an entry as its row has it: ``Example.COM`` is ``example.com``. Raises ValueError.

    Also that of one which is refused today: the list of public suffixes grows, and what is in the table must be found to be removed.
    """
    return _read_name(name.strip(), _parse).text


def _read_name(name: str, parse: Callable[[str], LocalPattern]) -> LocalPattern:
    try:
        return parse(name)
    except ValueError as error:
        raise ValueError(f"name: {name!r:.80}: {error}") from None


def index_patterns(patterns: Iterable[LocalPattern]) -> LocalPatterns:
    """File the patterns. Raises ValueError when there are too many of the kinds that cannot be filed."""
    known = {pattern.text: pattern for pattern in patterns}
    regexes = tuple(pattern.regex for pattern in known.values() if pattern.regex is not None)
    if len(regexes) > MOST_REGEXES:
        raise ValueError(f"{len(regexes)} regular expressions: expected at most {MOST_REGEXES}")
    wild = [pattern for pattern in known.values() if pattern.kind is Kind.WILDCARD]
    wildcards = tuple((_any_of(pattern.local), _any_of(pattern.domain)) for pattern in wild if "*" in pattern.domain)
    if len(wildcards) > MOST_WILDCARDS:
        raise ValueError(f"{len(wildcards)} domains with wildcards: expected at most {MOST_WILDCARDS}")
    by_domain: dict[str, list[str]] = {}
    for pattern in wild:
        if "*" not in pattern.domain:
            by_domain.setdefault(pattern.domain, []).append(pattern.local)
    return LocalPatterns(
        patterns=frozenset(known),
        domains=frozenset(pattern.domain for pattern in known.values() if pattern.kind is Kind.DOMAIN),
        addresses=frozenset((pattern.local, pattern.domain) for pattern in known.values() if pattern.kind is Kind.ADDRESS),
        by_domain={domain: _any_of(*parts) for domain, parts in by_domain.items()},
        wildcards=wildcards,
        regexes=regexes,
    )


def normalize_mailbox(mailbox: Mailbox) -> tuple[str, str]:
    """(local part, domain) as they are compared. A local part in quotes is the same as without (RFC 5321 4.1.2)."""
    local = mailbox.local
    if local.startswith('"'):
        local = re.sub(r"\\(.)", r"\1", local[1:-1], flags=re.DOTALL)
    try:
        domain = domain_to_ascii(mailbox.domain).lower()
    except InvalidAddress:
        domain = mailbox.domain.lower()
    return fold_address(local), domain


def _any_of(*patterns: str) -> AnyOf:
    return compile_patterns(patterns, fold_address)


def _parse_at(local: str, domain: str) -> LocalPattern:
    name = _parse_domain(domain)
    if local == "*":
        kind = Kind.WILDCARD if "*" in name else Kind.DOMAIN
        return LocalPattern(kind, f"*@{name}" if "*" in name else name, "*", name)
    try:
        mailbox = parse_mailbox(f"{local.replace('*', 'x') if '*' in local else local}@{name.replace('*', 'x')}")
    except InvalidAddress as error:
        raise ValueError(str(error)) from None
    if "*" in local or "*" in name:
        if local.startswith('"'):
            raise ValueError("expected no wildcard in an address with quotes")
        folded = fold_address(local)
        return LocalPattern(Kind.WILDCARD, f"{folded}@{name}", folded, name)
    folded, name = normalize_mailbox(mailbox)
    return LocalPattern(Kind.ADDRESS, f"{folded}@{name}", folded, name)


def _parse_domain(domain: str) -> str:
    """The domain in lower case and A-labels, its wildcards left. Raises ValueError."""
    try:
        if "*" not in domain:
            return domain_to_ascii(domain).lower()
        labels = [label if label.isascii() else domain_to_ascii(label) for label in domain.lower().split(".")]
        domain_to_ascii(".".join(labels).replace("*", "x"))
    except InvalidAddress as error:
        raise ValueError(str(error)) from None
    if domain.startswith("["):
        raise ValueError("expected no wildcard in an address literal")
    return ".".join(labels)


def _parse_regex(text: str) -> LocalPattern:
    if len(text) < 3 or not text.endswith("/"):
        raise ValueError("expected a regular expression between slashes, /…/")
    # Anchored, an expression is slow in fewer cases.
    regex = compile_regex(rf"\A(?:{text[1:-1]})\Z")
    return LocalPattern(Kind.REGEX, text, regex=regex)


def _refuse_strangers(pattern: LocalPattern) -> None:
    """Raise ValueError when the pattern would take the addresses of strangers' domains."""
    if pattern.regex is not None:
        stranger = find_stranger(pattern.text[1:-1], pattern.regex)
        if stranger is not None:
            raise ValueError(f"would take the addresses of strangers, such as {stranger}, as an open relay does")
    elif "*" in pattern.domain:
        public = find_public_part(pattern.domain.split("."))
        if public is not None:
            reason = f"anybody can have a domain below {public}" if public else "nothing is behind the last *"
            raise ValueError(
                f"would take the domains of strangers, as an open relay does: {reason}; "
                f"expected a whole domain of yours behind the *, such as *.example.{public or 'com'}"
            )
