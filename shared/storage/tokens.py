"""Bearer tokens (RFC 6750) of the HTTP interface, as they lie in the table ``tokens``: never the token itself, only its digest.

A token is 256 random bits, so its SHA-256 tells nobody what it was and needs no salt. It begins with ``mw_``: a text that is found where
it should not be is then known for what it is.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.storage.documents import Collection
from shared.wire.times import parse_time, render_time

TABLE = "tokens"
FIELDS = ("name", "digest", "scopes", "expires")
SCOPES = ("send", "route", "rules", "read")
"""``send``: mail and actions. ``route``: mail may say ``smarthost``, ``queues``, ``ips`` or ``key``. ``rules``: rules, pools, lists and
redrive. ``read``: everything that only shows."""
PREFIX = "mw_"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Token:
    """Who may do what."""

    name: str
    """Shown in logs and in the property ``http`` of the mail it sends."""
    digest: str
    """SHA-256 of the token, in hex."""
    scopes: frozenset[str]
    expires: datetime | None = None

    @property
    def document(self) -> dict[str, Any]:
        """As it lies in the table, without the name."""
        document: dict[str, Any] = {"digest": self.digest, "scopes": [scope for scope in SCOPES if scope in self.scopes]}
        return document if self.expires is None else document | {"expires": render_time(self.expires)}


def make_token() -> str:
    """A new token, to be shown once."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_token(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def parse_token(document: Mapping[str, Any]) -> Token:
    """A row of the table, or what the command makes of its options. Raises ValueError that begins with the field."""
    name, digest, scopes, expires = (document.get(field) for field in FIELDS)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"name: {str(name)[:80]!r}: expected 1 to 100 ASCII letters, digits and ._@-, the first a letter or digit"
        )
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        # Whoever wrote the token itself here must not find it in a log.
        raise ValueError("digest: expected the SHA-256 of the token, 64 hexadecimal digits")
    if not isinstance(scopes, list | tuple | frozenset) or not scopes or not all(scope in SCOPES for scope in scopes):
        shown = ", ".join(map(str, scopes)) if isinstance(scopes, list | tuple) else str(scopes)
        raise ValueError(f"scopes: {shown[:80]!r}: expected one or more of {', '.join(SCOPES)}")
    try:
        until = None if expires is None else parse_time(expires)
    except (ValueError, TypeError) as error:
        raise ValueError(f"expires: {str(expires)[:80]!r}: {error}") from None
    return Token(name, digest, frozenset(scopes), until)


TOKENS = Collection(TABLE, "token", "tokens", FIELDS, parse_token)
"""For the command."""
