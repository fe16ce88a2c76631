"""What a message or the settings ask to be signed: the property ``dkim``, typed and checked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from shared.mail.address import InvalidAddress, domain_to_ascii
from shared.mail.canonical import RELAXED, Canonicalization, parse_canonicalization
from shared.mail.signing_keys import PrivateKey, parse_private_key

MOST_REQUESTS = 10
"""Keys in one message."""
MOST_HEADERS = 100
"""Names in ``headers`` or ``oversign``."""
LONGEST_LIFE = timedelta(days=3650)
FIELDS = ("domain", "selector", "key", "headers", "expire", "canonicalization", "oversign", "protocols")
"""What a request may hold."""
NEVER_SIGNED = frozenset(
    b"return-path received received-spf delivered-to bcc resent-bcc dkim-signature authentication-results"
    b" arc-seal arc-message-signature arc-authentication-results".split()
)
"""Fields that servers on the way add, change or remove (RFC 6376 5.4, RFC 8617 4.1.2)."""
SINGLE = frozenset(
    b"from sender reply-to to cc subject date message-id in-reply-to references"
    b" mime-version content-type content-transfer-encoding".split()
)
"""Fields that a mail may have only once (RFC 5322 3.6, RFC 2045 3): what ``oversign: true`` means."""

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_SELECTOR = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# ftext without ";", which ends a tag (RFC 6376 2.10).
_HEADER = re.compile(r"[!-9<-~]{1,200}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)


class Protocol(StrEnum):
    """What a key is used for."""

    DKIM = "dkim"
    ARC = "arc"


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """One key, and how to sign with it."""

    domain: str
    """``d=``, lower case, A-labels."""
    selector: str
    key: PrivateKey = field(repr=False)
    headers: tuple[bytes, ...] = ()
    """Lower-case names signed besides the default ones, where they are present."""
    expire: datetime | timedelta | None = None
    """The moment from which the signature (and the key) no longer counts, or its life from the moment of signing."""
    canonicalization: Canonicalization = RELAXED
    oversign: frozenset[bytes] = frozenset([b"from"])
    """Lower-case names listed once more than they are present: nobody can add another such field unnoticed."""
    protocols: frozenset[Protocol] = frozenset([Protocol.DKIM])

    def expires_at(self, now: datetime) -> datetime | None:
        """``x=`` of a signature made at ``now``."""
        return now + self.expire if isinstance(self.expire, timedelta) else self.expire

    def is_over(self, now: datetime) -> bool:
        """``expire`` was a moment, and it has come: a signature would be void from the start (RFC 6376 3.5)."""
        ends_at = self.expires_at(now)
        return ends_at is not None and int(ends_at.timestamp()) <= int(now.timestamp())


def parse_signing(value: Any) -> tuple[SigningRequest, ...]:
    """The property ``dkim``: an object, or a list of at most MOST_REQUESTS. Properties of an object that we do not know are ignored.

    Raises ValueError with a sentence that names the property; the key is never in it.
    """
    if value is None:
        return ()
    if isinstance(value, dict):
        return (parse_signing_request(value, "dkim"),)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError("dkim: expected an object with domain, selector and key, or a list of such objects")
    if len(value) > MOST_REQUESTS:
        raise ValueError(f"dkim: {len(value)} keys: expected at most {MOST_REQUESTS}")
    return tuple(parse_signing_request(entry, f"dkim[{number}]") for number, entry in enumerate(value))


def parse_signing_request(entry: Mapping[str, Any], name: str, *, is_trusted: bool = False) -> SigningRequest:
    """One key. ``name`` is what a sentence begins with; ``is_trusted``: see ``parse_private_key``. Raises ValueError."""
    headers = _header_names(entry, "headers", name)
    for header in headers:
        if header in NEVER_SIGNED:
            raise ValueError(f"{name}.headers: {header.decode()} is changed on the way; it cannot be signed")
    return SigningRequest(
        domain=_domain(entry.get("domain"), f"{name}.domain"),
        selector=_selector(entry.get("selector"), f"{name}.selector"),
        key=_key(entry.get("key"), f"{name}.key", is_trusted=is_trusted),
        headers=headers,
        expire=_expire(entry.get("expire"), f"{name}.expire"),
        canonicalization=_canonicalization(entry.get("canonicalization"), f"{name}.canonicalization"),
        oversign=_oversign(entry, name),
        protocols=_protocols(entry.get("protocols"), f"{name}.protocols"),
    )


def _domain(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value or value.startswith("["):
        raise ValueError(f"{name}: {_show(value)}: expected a domain name")
    try:
        return domain_to_ascii(value)
    except InvalidAddress as error:
        raise ValueError(f"{name}: {error}") from None


def _selector(value: Any, name: str) -> str:
    if not isinstance(value, str) or not _SELECTOR.fullmatch(value) or len(value) > 200:
        raise ValueError(f"{name}: {_show(value)}: expected the name of the key below _domainkey: letters, digits, hyphens, dots")
    return value


def _key(value: Any, name: str, *, is_trusted: bool) -> PrivateKey:
    # The value stays out of every sentence.
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}: expected a private key in PEM form")
    try:
        return parse_private_key(value, is_trusted=is_trusted)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _expire(value: Any, name: str) -> datetime | timedelta | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LONGEST_LIFE.total_seconds():
        return timedelta(seconds=value)
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        except ValueError:
            pass
    raise ValueError(f"{name}: {_show(value)}: expected UTC time as YYYY-MM-DD HH:MM:SS, or seconds from signing")


def _canonicalization(value: Any, name: str) -> Canonicalization:
    if value is None:
        return RELAXED
    if not isinstance(value, str):
        raise ValueError(f"{name}: {_show(value)}: expected a text such as relaxed/relaxed")
    try:
        return parse_canonicalization(value)
    except ValueError as error:
        raise ValueError(f"{name}: {_show(value)}: {error}") from None


def _oversign(entry: Mapping[str, Any], name: str) -> frozenset[bytes]:
    value = entry.get("oversign")
    if value is None:
        return frozenset([b"from"])
    if isinstance(value, bool):
        return SINGLE if value else frozenset()
    names = _header_names(entry, "oversign", name)
    for header in names:
        if header in NEVER_SIGNED:
            raise ValueError(f"{name}.oversign: {header.decode()} is changed on the way; it cannot be signed")
    return frozenset(names) | {b"from"}


def _header_names(entry: Mapping[str, Any], key: str, name: str) -> tuple[bytes, ...]:
    value = entry.get(key)
    if value is None:
        return ()
    names: Sequence[Any] = value if isinstance(value, list) else [value]
    if len(names) > MOST_HEADERS or not all(isinstance(one, str) and _HEADER.fullmatch(one) for one in names):
        raise ValueError(f"{name}.{key}: {_show(value)}: expected a list of names of header fields, at most {MOST_HEADERS}")
    return tuple(dict.fromkeys(one.lower().encode("ascii") for one in names))


def _protocols(value: Any, name: str) -> frozenset[Protocol]:
    if value is None:
        return frozenset([Protocol.DKIM])
    given = value if isinstance(value, list) else [value]
    try:
        protocols = frozenset(Protocol(one) for one in given if isinstance(one, str))
    except ValueError:
        protocols = frozenset()
    if not protocols or not all(isinstance(one, str) for one in given):
        raise ValueError(f"{name}: {_show(value)}: expected {' or '.join(Protocol)}, or a list of them")
    return protocols


def _show(value: Any) -> str:
    return "missing" if value is None else repr(str(value)[:80])
