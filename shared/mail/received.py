"""The trace header that every hop prepends (RFC 5321 4.4), and the count of them, which shows a loop."""

import re
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache

from shared.mail.headers import cut_section

_MAX_NAME = 255
_MAX_FOR = 320
_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
# What a client says about itself is hostile text: nothing that could end a comment, a line or the field gets through.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.:_\[\]\u00a1-\u1fff\u2c00-\ud7ff-]")
_NOT_IN_ASCII_NAMES = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9._@+=/-]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def name_protocol(*, extended: bool = True, secure: bool = False, authenticated: bool = False, utf8: bool = False) -> str:
    """The word after ``with`` (RFC 3848, RFC 6531 4.3): SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA, UTF8SMTP, …"""
    if not extended:
        return "SMTP"
    return ("UTF8SMTP" if utf8 else "ESMTP") + ("S" if secure else "") + ("A" if authenticated else "")


def render_received(
    *,
    helo: str | None,
    remote_ip: str,
    by: str,
    now: datetime,
    protocol: str = "ESMTP",
    ident: str = "",
    recipient: str | None = None,
    remote_name: str = "",
) -> bytes:
    """One folded Received field with its CRLF; in front of the content it makes the content that leaves.

    ``helo``: what the client called itself, None where there is no such thing (HTTP); ``remote_name``: its verified host name, if
    known; ``remote_ip`` may be "" when nobody connected; ``by``: our host name; ``ident``: our id of the transaction; ``recipient``:
    only when the mail has a single one (others would learn of each other). ASCII unless ``protocol`` begins with UTF8; hostile
    characters become ``?``.
    """
    utf8 = protocol.startswith("UTF8")
    lines = []
    if helo is not None or remote_ip:
        address = _render_ip(remote_ip)
        client = address if helo is None else _clean_name(helo, utf8=utf8) or "unknown"
        known = " ".join(part for part in (_clean_name(remote_name, utf8=False), address) if part)
        lines.append(f"from {client} ({known})")
    number = _NOT_IN_IDS.sub("?", ident)
    lines.append(f"by {_clean_name(by, utf8=False)} with {protocol}" + (f" id {number}" if number else ""))
    if recipient and len(recipient) <= _MAX_FOR and (utf8 or recipient.isascii()) and not _CONTROL.search(recipient):
        lines.append(f"for <{recipient}>")
    lines[-1] += ";"
    lines.append(_render_date(now.replace(microsecond=0)))
    return ("Received: " + "\r\n\t".join(lines) + "\r\n").encode()


@lru_cache(maxsize=4)
def _render_date(now: datetime) -> str:
    return format_datetime(now)


def count_received(content: bytes) -> int:
    """How many Received fields the header section has (RFC 5321 6.3)."""
    return len(_RECEIVED.findall(cut_section(content)))


def _clean_name(name: str, *, utf8: bool) -> str:
    return (_NOT_IN_NAMES if utf8 else _NOT_IN_ASCII_NAMES).sub("?", name[:_MAX_NAME])


def _render_ip(address: str) -> str:
    text = _clean_name(address, utf8=False)
    if not text:
        return ""
    return f"[IPv6:{text}]" if ":" in text else f"[{text}]"
