"""What a sender asks to be told about a mail (RFC 3461; RFC 6533 for addresses that are not ASCII): types, parsing, SMTP parameters.

The message property ``dsn`` has plain text: ``orcpt`` and ``envid`` are written as they read, and are encoded here for SMTP.
Whoever takes them from SMTP parameters decodes them first (``decode_xtext``, ``decode_original_recipient``).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

MAX_ENVELOPE_ID = 100
"""Characters of ENVID, encoded (RFC 3461 4.4)."""
MAX_ORIGINAL_RECIPIENT = 500
"""Characters of ORCPT, address type included, encoded (RFC 3461 4.2)."""

_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,40}")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_ESCAPED_OCTET = re.compile(r"\+([0-9A-F]{2})")
_UTF8_ADDRESS = re.compile(r"(?:[!-*,-<>-\[\]-~\u0080-\U0010ffff]|\\x\{[0-9A-Fa-f]{2,6}\})*")
_ESCAPED_POINT = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_SHOWN = 80


class Notify(StrEnum):
    """``notify``: what is told (RFC 3461 4.1)."""

    NEVER = "NEVER"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    DELAY = "DELAY"


class Returned(StrEnum):
    """``ret``: how much of the mail comes back with a failure (RFC 3461 4.3)."""

    FULL = "FULL"
    HDRS = "HDRS"
    """The header section only."""


@dataclass(frozen=True, slots=True)
class DsnRequest:
    """The property ``dsn`` of a message. None: not said."""

    notify: frozenset[Notify] | None = None
    """NEVER stands alone."""
    returned: Returned | None = None
    original_recipient: str | None = None
    """``orcpt``: ``rfc822;address`` or ``utf-8;address``, not encoded."""
    envelope_id: str | None = None
    """``envid``, not encoded."""


def parse_dsn_request(value: Any) -> DsnRequest | None:
    """The property ``dsn``; None when it is missing or asks for nothing.

    ``notify``: ``NEVER`` or any of ``SUCCESS``, ``FAILURE``, ``DELAY``, as a text with commas or a list; ``ret``: ``FULL`` or
    ``HDRS``; ``orcpt``: ``rfc822;address``, or ``utf-8;address`` when it is not ASCII; ``envid``: text. All in plain text; keywords
    in any case. Raises ValueError that names ``dsn.<field>``, its value and what was expected.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise _invalid("dsn", value, "an object with notify, ret, orcpt, envid")
    for name in value:
        if name not in ("notify", "ret", "orcpt", "envid"):
            raise _invalid("dsn", name, "the names notify, ret, orcpt, envid")
    given = {name: one for name, one in value.items() if one is not None}
    if not given:
        return None
    return DsnRequest(
        notify=parse_notify(given["notify"], "dsn.notify") if "notify" in given else None,
        returned=parse_returned(given["ret"], "dsn.ret") if "ret" in given else None,
        original_recipient=_parse_original_recipient(given["orcpt"]) if "orcpt" in given else None,
        envelope_id=_parse_envelope_id(given["envid"]) if "envid" in given else None,
    )


def parse_notify(value: Any, name: str) -> frozenset[Notify]:
    """A text with commas or a list. Raises ValueError that begins with ``name``."""
    if isinstance(value, str):
        return _parse_words(value, name)
    if isinstance(value, Sequence) and not isinstance(value, bytes) and all(isinstance(word, str) for word in value):
        return _parse_words(",".join(value), name)
    raise _invalid(name, value, _NOTIFY_FORM)


def parse_returned(value: Any, name: str) -> Returned:
    """``FULL`` or ``HDRS``. Raises ValueError that begins with ``name``."""
    if not isinstance(value, str) or value.upper() not in Returned.__members__:
        raise _invalid(name, value, "FULL or HDRS")
    return Returned(value.upper())


def render_mail_parameters(request: DsnRequest | None, *, is_null: bool) -> str:
    """What is appended to MAIL for a peer with DSN, with its space in front; "" when nothing was asked for.

    ``is_null``: the reverse-path is; then nothing is to be returned (RFC 3461 6.2).
    """
    words = []
    if request is not None:
        if request.returned is not None and not is_null:
            words.append(f" RET={request.returned}")
        if request.envelope_id is not None:
            words.append(f" ENVID={encode_xtext(request.envelope_id)}")
    return "".join(words)


def render_rcpt_parameters(request: DsnRequest | None, *, is_null: bool) -> str:
    """What is appended to RCPT for a peer with DSN, as above. With the null reverse-path NOTIFY can only be NEVER (RFC 3461 6.2)."""
    words = []
    if request is not None:
        if request.notify is not None and (not is_null or Notify.NEVER in request.notify):
            words.append(" NOTIFY=" + ",".join(word for word in Notify if word in request.notify))
        if request.original_recipient is not None:
            words.append(f" ORCPT={encode_original_recipient(request.original_recipient)}")
    return "".join(words)


def encode_xtext(text: str) -> str:
    """RFC 3461 4: everything but printable ASCII without ``+``, ``=`` and space becomes ``+HH``."""
    return "".join(chr(octet) if 0x21 <= octet <= 0x7E and octet not in b"+=" else f"+{octet:02X}" for octet in text.encode())


def decode_xtext(text: str) -> str:
    """The reverse. Raises ValueError when it is not xtext, or not printable ASCII once decoded."""
    if not _XTEXT.fullmatch(text):
        raise ValueError("expected xtext (RFC 3461)")
    plain = _ESCAPED_OCTET.sub(lambda found: chr(int(found[1], 16)), text)
    if not (plain.isascii() and plain.isprintable()):
        raise ValueError("expected printable ASCII")
    return plain


def _decode_octets(text: str) -> str:
    """xtext of UTF-8. Raises ValueError (UnicodeDecodeError is one)."""
    if not _XTEXT.fullmatch(text):
        raise ValueError("expected xtext (RFC 3461)")
    plain = _ESCAPED_OCTET.sub(lambda found: chr(int(found[1], 16)), text).encode("latin-1").decode()
    if not plain.isprintable():
        raise ValueError("expected printable characters")
    return plain


def encode_original_recipient(text: str) -> str:
    """``type;address`` for ORCPT: xtext, or utf-8-addr-xtext (RFC 6533 3), which every peer with DSN can take."""
    kind, _, address = text.partition(";")
    return f"{kind};{encode_utf8_address(address) if kind.lower() == 'utf-8' else encode_xtext(address)}"


def encode_utf8_address(address: str) -> str:
    """utf-8-addr-xtext (RFC 6533 3): what is not printable ASCII, and ``+``, ``=``, backslash and space, becomes ``\\x{HEX}``."""
    return "".join(char if "!" <= char <= "~" and char not in "+=\\" else f"\\x{{{ord(char):02X}}}" for char in address)


def decode_original_recipient(parameter: str) -> str:
    """The value of ORCPT as ``dsn.orcpt`` has it. Raises ValueError."""
    kind, semicolon, address = parameter.partition(";")
    if not semicolon:
        raise ValueError("expected type;address")
    if kind.lower() == "rfc822" and "+" in address:
        # Postfix writes an address that is not ASCII as xtext of its UTF-8 octets. RFC 6533 calls such an address utf-8.
        plain = _decode_octets(address)
        return f"{kind if plain.isascii() else 'utf-8'};{plain}"
    if kind.lower() != "utf-8":
        return f"{kind};{decode_xtext(address)}"
    if not _UTF8_ADDRESS.fullmatch(address):
        raise ValueError("expected an address as RFC 6533 writes it")
    points = [int(found, 16) for found in _ESCAPED_POINT.findall(address)]
    if any(point > 0x10FFFF or 0xD800 <= point <= 0xDFFF for point in points):
        raise ValueError("expected Unicode characters")
    return f"{kind};{_ESCAPED_POINT.sub(lambda found: chr(int(found[1], 16)), address)}"


_NOTIFY_FORM = "NEVER, or any of SUCCESS, FAILURE, DELAY"


@lru_cache(maxsize=256)
def _parse_words(text: str, name: str) -> frozenset[Notify]:
    words = [word.strip(" ").upper() for word in text.split(",")]
    if not all(word in Notify.__members__ for word in words) or ("NEVER" in words and set(words) != {"NEVER"}):
        raise _invalid(name, text, _NOTIFY_FORM)
    return frozenset(map(Notify, words))


def _parse_original_recipient(value: Any) -> str:
    expected = "rfc822;address, or utf-8;address when it is not ASCII"
    if not isinstance(value, str):
        raise _invalid("dsn.orcpt", value, expected)
    kind, _, address = value.partition(";")
    if not _ADDRESS_TYPE.fullmatch(kind) or not address.strip(" ") or not value.isprintable():
        raise _invalid("dsn.orcpt", value, expected)
    if not address.isascii() and kind.lower() != "utf-8":
        raise _invalid("dsn.orcpt", value, expected)
    if len(encode_original_recipient(value)) > MAX_ORIGINAL_RECIPIENT:
        raise _invalid("dsn.orcpt", value, f"at most {MAX_ORIGINAL_RECIPIENT} characters, encoded")
    return value


def _parse_envelope_id(value: Any) -> str:
    if not isinstance(value, str) or not value.strip(" ") or not (value.isascii() and value.isprintable()):
        raise _invalid("dsn.envid", value, "printable ASCII text")
    if len(encode_xtext(value)) > MAX_ENVELOPE_ID:
        raise _invalid("dsn.envid", value, f"at most {MAX_ENVELOPE_ID} characters, encoded")
    return value


def _invalid(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{name}: {str(value)[:_SHOWN]!r}: expected {expected}")
