"""What a message asks of the sender, typed and checked. The codec between MailerQ's property names and ours.

A property of an impossible type or value, or one that this version cannot honour, is an ``InvalidProperty``: the mail ends as
``process``/``invalid`` with that sentence. It is never ignored: mail that asked to be signed must not leave unsigned.
"""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from shared.mail.address import InvalidAddress, Mailbox, parse_mailbox
from shared.mail.dsn import DsnRequest, parse_dsn_request
from shared.mail.edits import HeaderEdits, parse_edits
from shared.mail.signing import SigningRequest, parse_signing
from shared.wire.message import Message
from shared.wire.times import parse_time

T = TypeVar("T")
STRATEGIES = ("smtp", "seal")
"""The delivery strategies there are."""


QUEUES = ("success", "failure", "results", "retry", "dsn")
"""What ``queues`` may name a key for."""


class InvalidProperty(ValueError):
    """Names the property, its value and what was expected."""


class Security(StrEnum):
    """``security``: what STARTTLS must be."""

    OPTIONAL = "optional"
    """Never STARTTLS."""
    OPPORTUNISTIC = "opportunistic"
    """If it is offered, with any certificate; in clear text if it fails."""
    REQUIRED = "required"
    VERIFIED = "verified"
    """Required, with a valid and matching certificate."""


@dataclass(frozen=True, slots=True)
class Smarthost:
    """A next hop named by the message or the settings; replaces the MX look-up."""

    hostname: str
    port: int = 25
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Instructions:
    """The typed properties of one message. None: the setting decides."""

    recipient: Mailbox
    reverse_path: Mailbox | None
    """None is the null reverse-path."""
    strategy: str | None
    outbound: tuple[str, ...]
    """Strategies to fall back to, in order."""
    source_addresses: tuple[str, ...] | None
    """``ips``."""
    smarthost: Smarthost | None
    security: Security | None
    not_before: datetime | None
    """``nextattempt``."""
    deadline: datetime | None
    """``maxdelivertime``."""
    most_attempts: int | None
    """``maxattempts``; 0 = unlimited."""
    intervals: tuple[timedelta, ...]
    """``retries``; empty = the setting."""
    queues: Mapping[str, str | None]
    """``queues``: routing keys of this message; None = publish nowhere."""
    priority: int | None
    pool: str | None = None
    """Name of a pool of source addresses; ``ips`` wins over it."""
    edits: HeaderEdits | None = None
    """``headers``."""
    signing: tuple[SigningRequest, ...] = ()
    """``dkim``."""
    dsn: DsnRequest | None = None
    """``dsn``: of what the sender wants to be notified."""


def parse_instructions(message: Message) -> Instructions:
    """Check and type every property that concerns sending. Raises InvalidProperty."""
    document = message.document
    _refuse_unbuilt(document)
    _check_untyped(document)
    return Instructions(
        recipient=_mailbox(document, "recipient"),
        reverse_path=_mailbox(document, "envelope") if message.reverse_path or _is_odd(document, "envelope") else None,
        strategy=_one_of(document, "strategy", STRATEGIES),
        outbound=_outbound(document),
        source_addresses=_source_addresses(document),
        smarthost=_smarthost(document),
        security=Security(level) if (level := _one_of(document, "security", tuple(Security))) else None,
        not_before=parse_not_before(document),
        deadline=_time(document, "maxdelivertime"),
        most_attempts=_whole(document, "maxattempts"),
        intervals=_intervals(document),
        queues=_queues(document),
        priority=_whole(document, "priority", most=255),
        pool=_pool(document),
        edits=_parsed(parse_edits, document.get("headers")),
        signing=_parsed(parse_signing, document.get("dkim")),
        dsn=_parsed(parse_dsn_request, document.get("dsn")),
    )


def parse_not_before(document: Mapping[str, Any]) -> datetime | None:
    """``nextattempt`` ({"time": …}) or its alias ``delayed``."""
    following = document.get("nextattempt")
    if following is None:
        return _time(document, "delayed")
    if not isinstance(following, dict):
        raise _invalid("nextattempt", following, 'an object {"time": "YYYY-MM-DD HH:MM:SS"}')
    return _time(following, "time", shown="nextattempt.time")


def _refuse_unbuilt(document: Mapping[str, Any]) -> None:
    for name in ("data", "inlinecss"):
        if document.get(name):
            raise InvalidProperty(f"{name}: this version cannot honour it yet; leave it out, or the mail is not sent")


def _parsed(parse: Callable[[Any], T], value: Any) -> T:
    """What ``parse`` makes of a property, empty = absent; its ValueError names the property already."""
    try:
        return parse(value or None)
    except ValueError as error:
        raise InvalidProperty(str(error)) from None


def _pool(document: Mapping[str, Any]) -> str | None:
    name = document.get("pool") or None
    if name is not None and (not isinstance(name, str) or not 0 < len(name) <= 200):
        raise _invalid("pool", name, "the name of a pool, a text of 1 to 200 characters")
    return name


def _check_untyped(document: Mapping[str, Any]) -> None:
    """Properties that others read straight from the document."""
    for name in ("keepmime", "force"):
        # 0 and 1 are MailerQ's way to say it; 1.0 is not.
        value = document.get(name)
        if value is not None and not (isinstance(value, int) and value in (0, 1)):
            raise _invalid(name, value, "true, false, 0 or 1")
    _list(document, "tags", str, "a list of texts")


def _invalid(name: str, value: Any, expected: str) -> InvalidProperty:
    shown = "missing" if value is None else repr(str(value)[:80])
    return InvalidProperty(f"{name}: {shown}: expected {expected}")


def _is_odd(document: Mapping[str, Any], name: str) -> bool:
    return document.get(name) is not None and not isinstance(document[name], str)


def _mailbox(document: Mapping[str, Any], name: str) -> Mailbox:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise _invalid(name, value, "a mail address")
    try:
        return parse_mailbox(value)
    except InvalidAddress as error:
        raise InvalidProperty(f"{name}: {value[:320]!r}: {error}") from None


def _one_of(document: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str | None:
    value = document.get(name)
    if value is not None and value not in choices:
        raise _invalid(name, value, "one of " + ", ".join(choices))
    return value


def _time(document: Mapping[str, Any], name: str, *, shown: str | None = None) -> datetime | None:
    value = document.get(name)
    if value is None:
        return None
    try:
        return parse_time(value)
    except ValueError as error:
        raise InvalidProperty(f"{shown or name}: {str(value)[:80]!r}: {error}") from None


def _whole(document: Mapping[str, Any], name: str, *, most: int = 2**31 - 1, shown: str | None = None) -> int | None:
    value = document.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most):
        raise _invalid(shown or name, value, f"a whole number from 0 to {most}")
    return value


def _list(document: Mapping[str, Any], name: str, kind: type, expected: str) -> list[Any] | None:
    value = document.get(name)
    if value is not None and not (
        isinstance(value, list) and all(isinstance(item, kind) and not isinstance(item, bool) for item in value)
    ):
        raise _invalid(name, value, expected)
    return value


def _intervals(document: Mapping[str, Any]) -> tuple[timedelta, ...]:
    seconds = _list(document, "retries", int, "a list of seconds") or []
    if not all(0 < interval <= 10**8 for interval in seconds):
        raise _invalid("retries", seconds, "a list of seconds, each above 0")
    return tuple(timedelta(seconds=interval) for interval in seconds)


def _outbound(document: Mapping[str, Any]) -> tuple[str, ...]:
    chain = _list(document, "outbound", str, "a list of strategies") or []
    for strategy in chain:
        _one_of({"outbound": strategy}, "outbound", STRATEGIES)
    return tuple(chain)


def _source_addresses(document: Mapping[str, Any]) -> tuple[str, ...] | None:
    addresses = _list(document, "ips", str, "a list of IP addresses")
    return None if addresses is None else tuple(_checked(address, ipaddress.ip_address) for address in addresses)


def _checked(address: str, check: Callable[[str], Any]) -> str:
    try:
        return str(check(address))
    except ValueError:
        raise _invalid("ips", address, "an IP address") from None


def _smarthost(document: Mapping[str, Any]) -> Smarthost | None:
    value = document.get("smarthost")
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("hostname"), str) or not value["hostname"]:
        raise InvalidProperty("smarthost: expected an object with a hostname")
    port = _whole(value, "port", most=65535, shown="smarthost.port")
    for name in ("username", "password"):
        # The value stays out of the sentence: it may be the password.
        if value.get(name) is not None and not isinstance(value[name], str):
            raise InvalidProperty(f"smarthost.{name}: expected a string")
    return Smarthost(value["hostname"], port or 25, value.get("username"), value.get("password"))


def _queues(document: Mapping[str, Any]) -> Mapping[str, str | None]:
    value = document.get("queues")
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(key is None or isinstance(key, str) for key in value.values()):
        raise _invalid("queues", value, "an object of routing keys")
    for name, key in value.items():
        if name not in QUEUES:
            raise _invalid("queues", name, f"the names {', '.join(QUEUES)}")
        if key is not None and not 0 < len(key.encode()) <= 255:
            raise _invalid(f"queues.{name}", key, "a routing key of 1 to 255 bytes")
    return value
