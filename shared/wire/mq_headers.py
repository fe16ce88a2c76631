"""``X-MQ-…`` headers: how a client that speaks SMTP sets the properties of a message. They never leave us.

``envelope pool delayed maxdelivertime maxattempts retries inlinecss keepmime smarthost-{hostname,port,username,password}
dsn-{notify,ret,orcpt,envid} {results,failure,success,retry}-queue``, each once; ``ip`` and ``tag`` as often as wanted. An unknown
``X-MQ-Foo`` becomes the property ``foo``, a list when it is repeated; never one of the properties that have a meaning.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from shared.mail.address import InvalidAddress, parse_mailbox
from shared.mail.fields import FIELD, find_section, unfold
from shared.mail.headers import decode_words
from shared.wire.message import OURS, PAYLOAD
from shared.wire.times import parse_time, render_time

MAX_HEADERS = 200
MAX_VALUE = 4096
"""Octets of one value, unfolded."""
MAX_WHOLE = 2**31 - 1

RESERVED = (
    OURS
    | frozenset(PAYLOAD)
    | frozenset(
        [
            "recipient", "envelope", "data", "force", "inlinecss", "headers", "dkim", "dsn", "ips", "pool", "smarthost", "security",
            "nextattempt", "delayed", "maxdelivertime", "maxattempts", "retries", "queues", "tags", "priority", "strategy", "message-id",
            "keepmime", "received", "hostname", "connection", "http",
        ]
    )
)  # fmt: skip
"""Properties with a meaning: an unknown header does not become one of them."""

_LINES = re.compile(rb"^x-mq-[^\n]*+(?:\n|\Z)(?:[ \t][^\n]*+(?:\n|\Z))*+", re.IGNORECASE | re.MULTILINE)
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HOSTNAME = re.compile(r"[^\s\x00-\x20\x7f]{1,255}")
_ORCPT = re.compile(r"[A-Za-z0-9-]{1,64};[!-~]{1,500}")
_ENVID = re.compile(r"[!-~]{1,100}")
_NOTIFY = ("SUCCESS", "FAILURE", "DELAY")
_QUEUES = ("results", "failure", "success", "retry")


def take_mq_headers(content: bytes) -> tuple[bytes, dict[str, Any]]:
    """(the content without its ``X-MQ-…`` headers, the properties that they set).

    Every other octet stays; the same object when there are none. Raises ValueError that names the header, its value (never a
    password) and what was expected; printable ASCII.
    """
    head = _cut_head(content)
    found = list(islice(_LINES.finditer(head), MAX_HEADERS + 1))
    if not found:
        return content, {}
    if len(found) > MAX_HEADERS:
        raise ValueError(f"X-MQ-...: expected at most {MAX_HEADERS} of these headers")
    end = find_section(content).end
    given: dict[str, list[str]] = {}
    spelled: dict[str, str] = {}
    for lines in found:
        header = FIELD.match(content, lines.start(), lines.end())
        if header is None or lines.start() >= end:
            # Behind a line that is no header some would take it for one, some for text.
            raise ValueError("X-MQ-...: expected it among the headers, with a colon, not behind a line that is no header")
        name = header["name"].decode("ascii")
        given.setdefault(name[5:].lower(), []).append(_text(name, header["value"]))
        spelled.setdefault(name[5:].lower(), name)
    return strip_mq_headers(content), _to_properties(given, spelled)


def strip_mq_headers(content: bytes) -> bytes:
    """The content without its ``X-MQ-…`` headers, whatever they say; the same object when there are none."""
    head = _cut_head(content)
    stripped = _LINES.sub(b"", head)
    return content if len(stripped) == len(head) else stripped + content[len(head) :]


def _cut_head(content: bytes) -> bytes:
    """What stands before the first empty line; nothing when there is no such header in it."""
    if content[:1] in (b"\r", b"\n"):
        return b""
    end = content.find(b"\n\r\n")
    # Not looked for behind that one: the rest of the content may be long.
    plain = content.find(b"\n\n", 0, len(content) if end < 0 else end + 1)
    end = plain if plain >= 0 else end
    head = content[: end + 1] if end >= 0 else content
    return head if b"x-mq-" in head.lower() else b""


def _text(name: str, value: bytes) -> str:
    octets = unfold(value)
    if len(octets) > MAX_VALUE:
        raise ValueError(f"{name[:60]}: expected at most {MAX_VALUE} octets")
    try:
        text = octets.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{name[:60]}: expected UTF-8") from None
    if _CONTROL.search(text):
        raise ValueError(f"{name[:60]}: expected a text without control characters")
    return text


def _to_properties(given: Mapping[str, list[str]], spelled: Mapping[str, str]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for lower, values in given.items():
        if lower in _REPEATED:
            parse, name = _REPEATED[lower]
            properties[name] = [item for value in values for item in _parsed(parse, spelled[lower], value)]
        elif lower in _SINGLE:
            if len(values) > 1:
                raise ValueError(f"{spelled[lower]}: given {len(values)} times, expected once")
            parse, (name, *inner) = _SINGLE[lower]
            value = _parsed(parse, spelled[lower], values[0], is_secret=lower == "smarthost-password")
            if inner:
                properties.setdefault(name, {})[inner[0]] = value
            else:
                properties[name] = value
        elif lower in RESERVED or not _NAME.fullmatch(lower):
            raise ValueError(f"{spelled[lower][:60]}: not a header that sets a property")
        else:
            texts = [decode_words(value) for value in values]
            properties[lower] = texts[0] if len(texts) == 1 else texts
    if "smarthost" in properties and "hostname" not in properties["smarthost"]:
        name = next(spelled[lower] for lower in given if lower.startswith("smarthost-"))
        raise ValueError(f"{name}: expected X-MQ-Smarthost-Hostname with it")
    if "queues" in properties:
        # Naming one queue switches the others' defaults off (MailerQ); the property ``queues`` itself does not.
        properties["queues"] = dict.fromkeys(_QUEUES) | properties["queues"]
    return properties


def _parsed(parse: Callable[[str], Any], name: str, value: str, *, is_secret: bool = False) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        shown = "" if is_secret else f" {value[:80]!a}:"
        raise ValueError(f"{name}:{shown} {error}") from None


def _parse_envelope(value: str) -> str:
    address = value[1:-1] if value.startswith("<") and value.endswith(">") else value
    if not address:
        return ""
    try:
        return parse_mailbox(address).address
    except InvalidAddress as error:
        raise ValueError(f"expected a mail address, or <> ({ascii(str(error))[1:-1]})") from None


def _parse_ips(value: str) -> list[str]:
    try:
        addresses = [str(ipaddress.ip_address(word)) for word in _words(value)]
    except ValueError:
        addresses = []
    if not addresses:
        raise ValueError("expected IP addresses")
    return addresses


def _parse_tag(value: str) -> list[str]:
    return [_parse_text(value)]


def _parse_text(value: str) -> str:
    text = decode_words(value)
    if not text:
        raise ValueError("expected a text that is not empty")
    return text


def _parse_hostname(value: str) -> str:
    if not _HOSTNAME.fullmatch(value):
        raise ValueError("expected the name or the address of a host")
    return value


def _parse_moment(value: str) -> str:
    return render_time(parse_time(value))


def _parse_whole(value: str, least: int = 0, most: int = MAX_WHOLE) -> int:
    if not (value.isascii() and value.isdecimal() and len(value) <= 10 and least <= int(value) <= most):
        raise ValueError(f"expected a whole number from {least} to {most}")
    return int(value)


def _parse_port(value: str) -> int:
    return _parse_whole(value, 1, 65535)


def _parse_retries(value: str) -> list[int]:
    words = _words(value)
    try:
        seconds = [_parse_whole(word, 1, 10**8) for word in words]
    except ValueError:
        seconds = []
    if not seconds:
        raise ValueError("expected seconds, each above 0, with commas or spaces between them")
    return seconds


def _parse_flag(value: str) -> bool:
    lower = value.lower()
    if lower not in ("0", "1", "true", "false"):
        raise ValueError("expected true, false, 0 or 1")
    return lower in ("1", "true")


def _parse_notify(value: str) -> list[str]:
    words = [word.upper() for word in _words(value)]
    if words != ["NEVER"] and (not words or not set(words) <= set(_NOTIFY)):
        raise ValueError("expected NEVER, or any of SUCCESS, FAILURE, DELAY")
    return list(dict.fromkeys(words))


def _parse_ret(value: str) -> str:
    if value.upper() not in ("FULL", "HDRS"):
        raise ValueError("expected FULL or HDRS")
    return value.upper()


def _parse_orcpt(value: str) -> str:
    if not _ORCPT.fullmatch(value):
        raise ValueError("expected the type of an address, a semicolon and the address, such as rfc822;a@example.com")
    return value


def _parse_envid(value: str) -> str:
    if not _ENVID.fullmatch(value):
        raise ValueError("expected 1 to 100 printable ASCII characters without spaces")
    return value


def _parse_queue(value: str) -> str | None:
    if len(value.encode()) > 255:
        raise ValueError("expected a routing key of at most 255 octets, or nothing: publish nowhere")
    return value or None


def _words(value: str) -> list[str]:
    return value.replace(",", " ").split()


_REPEATED: Mapping[str, tuple[Callable[[str], list[str]], str]] = {"ip": (_parse_ips, "ips"), "tag": (_parse_tag, "tags")}
_SINGLE: Mapping[str, tuple[Callable[[str], Any], tuple[str, ...]]] = {
    "envelope": (_parse_envelope, ("envelope",)),
    "pool": (_parse_text, ("pool",)),
    "delayed": (_parse_moment, ("delayed",)),
    "maxdelivertime": (_parse_moment, ("maxdelivertime",)),
    "maxattempts": (_parse_whole, ("maxattempts",)),
    "retries": (_parse_retries, ("retries",)),
    "inlinecss": (_parse_flag, ("inlinecss",)),
    "keepmime": (_parse_flag, ("keepmime",)),
    "smarthost-hostname": (_parse_hostname, ("smarthost", "hostname")),
    "smarthost-port": (_parse_port, ("smarthost", "port")),
    "smarthost-username": (_parse_text, ("smarthost", "username")),
    "smarthost-password": (_parse_text, ("smarthost", "password")),
    "dsn-notify": (_parse_notify, ("dsn", "notify")),
    "dsn-ret": (_parse_ret, ("dsn", "ret")),
    "dsn-orcpt": (_parse_orcpt, ("dsn", "orcpt")),
    "dsn-envid": (_parse_envid, ("dsn", "envid")),
    **{f"{name}-queue": (_parse_queue, ("queues", name)) for name in _QUEUES},
}
