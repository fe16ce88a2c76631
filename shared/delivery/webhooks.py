"""Endpoints that events are posted to: what they may say, how they are signed. Pure; the table that holds them is elsewhere.

An endpoint is ``{"name": "shop", "url": "https://shop.example/mail-events", "events": ["delivered", "failed"], "tags": ["invoices"]}``
with a secret. Signatures and secrets are those of Standard Webhooks 1.0 (standardwebhooks.com).
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

from shared.wire.times import parse_time

EVENTS = ("accepted", "deferred", "delivered", "failed")
"""What an endpoint may ask for, in the order of a mail's life."""
USUAL_EVENTS = ("delivered", "failed")
"""Of an endpoint that does not say."""
FIELDS = ("name", "url", "events", "tags", "secret", "enabled", "disabled_at", "reason", "failing_since")
STATE = ("disabled_at", "reason", "failing_since")
"""Those of them that only we write."""
MOST_TAGS = 100
PREFIX = "whsec_"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OCTETS = range(24, 65)
"""Of a secret's key."""
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Somebody who wants to know."""

    name: str
    url: str
    events: frozenset[str]
    tags: frozenset[str]
    """Only mail with one of them; empty: all mail."""
    secret: str = field(repr=False)
    """As it was given or made, with its prefix; "": not made yet."""
    is_enabled: bool | None
    """None: it does not say."""
    disabled_at: datetime | None = None
    reason: str | None = None
    """Why it was disabled, or what its failures say."""
    failing_since: datetime | None = None
    """The first failure after which nothing was taken."""

    @property
    def document(self) -> dict[str, Any]:
        """What was asked for, as its row holds it; the state is not part of it."""
        document: dict[str, Any] = {"url": self.url, "events": [one for one in EVENTS if one in self.events]}
        document |= {"tags": sorted(self.tags)} if self.tags else {}
        document |= {"secret": self.secret} if self.secret else {}
        return document | ({} if self.is_enabled is None else {"enabled": self.is_enabled})

    def wants(self, event: str, tags: Iterable[Any]) -> bool:
        """Is an event of this kind, about mail with these ``tags``, for it?"""
        return event in self.events and (not self.tags or any(isinstance(tag, str) and tag in self.tags for tag in tags))


def parse_endpoint(document: Mapping[str, Any]) -> Endpoint:
    """An endpoint as asked for, or a row. Raises ValueError that names the field, its value and what was expected."""
    name = document.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"name: {name!r:.80}: expected 1 to 100 ASCII letters, digits and ._-, the first a letter or digit")
    enabled, reason = document.get("enabled"), document.get("reason")
    if enabled is not None and not isinstance(enabled, bool):
        raise ValueError(f"enabled: {enabled!r:.80}: expected true or false")
    if reason is not None and not isinstance(reason, str):
        raise ValueError(f"reason: {reason!r:.80}: expected a text")
    return Endpoint(
        name=name,
        url=_parse_url(document.get("url")),
        events=_parse_events(document.get("events")),
        tags=_parse_tags(document.get("tags")),
        secret=_parse_secret(document.get("secret")),
        is_enabled=enabled,
        disabled_at=_parse_moment(document, "disabled_at"),
        reason=reason,
        failing_since=_parse_moment(document, "failing_since"),
    )


def make_secret() -> str:
    """A new secret of 32 octets, to be shown once."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode("ascii")


def sign(secret: str, ident: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature`` of a request with this ``webhook-id``, ``webhook-timestamp`` (unix seconds) and body."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    digest = hmac.new(key, b"%s.%d.%s" % (ident.encode(), timestamp, body), hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")


def _parse_url(value: Any) -> str:
    expected = "expected https://host[:port]/path, at most 2,000 ASCII characters, without user, password or fragment"
    # The value stays out of the sentence: a path may be as good as a password.
    if not isinstance(value, str) or len(value) > 2000 or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f"url: {'missing' if value is None else 'not a URL'}: {expected}")
    try:
        parts = urlsplit(value)
        is_right = parts.scheme in ("http", "https") and _is_host(parts) and not parts.fragment and "#" not in value
    except ValueError:
        is_right = False
    if not is_right:
        raise ValueError(f"url: not one that is posted to: {expected}")
    return value


def _is_host(parts: SplitResult) -> bool:
    host, has_user = parts.hostname or "", "@" in parts.netloc
    return bool(_HOST.fullmatch(host)) and not has_user and parts.port != 0 and "\\" not in parts.geturl()


def _parse_events(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset(USUAL_EVENTS)
    if not isinstance(value, list | tuple) or not value or not all(isinstance(one, str) and one in EVENTS for one in value):
        raise ValueError(f"events: {value!r:.80}: expected a list of {', '.join(EVENTS)}")
    return frozenset(value)


def _parse_tags(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset()
    is_list = isinstance(value, list | tuple) and len(value) <= MOST_TAGS
    if not is_list or not all(isinstance(one, str) and 0 < len(one) <= 200 and "\0" not in one for one in value):
        raise ValueError(f"tags: {value!r:.80}: expected a list of at most {MOST_TAGS} texts of 1 to 200 characters")
    return frozenset(value)


def _parse_secret(value: Any) -> str:
    if value is None:
        return ""
    try:
        if isinstance(value, str) and value.startswith(PREFIX) and value.isascii():
            key = base64.b64decode(value.removeprefix(PREFIX), validate=True)
            if len(key) in _OCTETS:
                return value
    except binascii.Error:
        pass
    # It must not be found in a log.
    raise ValueError(
        f"secret: expected {PREFIX} and {_OCTETS.start} to {_OCTETS.stop - 1} octets in base64; leave it out to get one"
    )


def _parse_moment(document: Mapping[str, Any], name: str) -> datetime | None:
    value = document.get(name)
    if value is None:
        return None
    try:
        return parse_time(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: {value!r:.80}: {error}") from None
