"""Pools of source addresses: what they may say. Pure; files and tables that hold them are elsewhere.

A pool is ``{"name": "bulk", "ips": ["192.0.2.1", "192.0.2.2"], "helo": "bulk.example"}``, or with a name for EHLO per address
``{"name": "bulk", "ips": {"192.0.2.1": "one.example", "192.0.2.2": "two.example"}}``.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_ADDRESSES = 256
"""Addresses in one pool."""
FIELDS = ("name", "ips", "helo")

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class Source:
    """A local address to send from."""

    address: str | None
    """As ``ipaddress`` writes it; None = the system chooses."""
    helo: str | None = None
    """What to say in EHLO from there; None = the setting ``smtp-helo-names``, else ``smtp-hostname``."""


@dataclass(frozen=True, slots=True)
class SourcePool:
    """Addresses under a name."""

    name: str
    sources: tuple[Source, ...]
    """At least one."""
    document: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """``ips`` and ``helo`` as they were given."""


def parse_pool(document: Mapping[str, Any]) -> SourcePool:
    """A pool from ``{"name", "ips", "helo"}``. Raises ValueError that names the field, its value and what was expected."""
    if not isinstance(document, Mapping):
        raise ValueError(f"a pool: {document!r:.80}: expected an object with name and ips")
    name, helo = document.get("name"), document.get("helo")
    if not isinstance(name, str) or not 0 < len(name) <= 200 or not name.isprintable() or name in (".", ".."):
        raise ValueError(f"name: {name!r:.250}: expected a text of 1 to 200 printable characters, not . or ..")
    if helo is not None:
        helo = _parse_helo("helo", helo)
    sources = _parse_ips(document.get("ips"), helo)
    return SourcePool(name, sources, {key: document[key] for key in ("ips", "helo") if document.get(key) is not None})


def parse_source_address(text: Any) -> str:
    """An address that can be sent from, normalised. Raises ValueError."""
    try:
        address = ipaddress.ip_address(text) if isinstance(text, str) else None
    except ValueError:
        address = None
    if address is None or address.is_unspecified or address.is_multicast:
        raise ValueError(f"{text!r:.80}: expected an IP address of a host")
    return str(address)


def check_helo_name(name: str) -> str:
    """``name`` when EHLO takes it: a domain of LDH labels, or an address literal (RFC 5321 4.1.1.1, 4.1.3). Raises ValueError."""
    if name.startswith("[") and name.endswith("]"):
        inner = name[1:-1]
        is_six = inner[:5].lower() == "ipv6:"
        try:
            if is_six == (ipaddress.ip_address(inner[5:] if is_six else inner).version == 6):
                return name
        except ValueError:
            pass
    elif len(name) <= 255 and _NAME.fullmatch(name):
        return name
    raise ValueError(f"{name!r:.80}: expected a host name such as mail.example, in ASCII, or an address in brackets")


def _parse_helo(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}: {value!r:.80}: expected a host name")
    try:
        return check_helo_name(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _parse_ips(value: Any, helo: str | None) -> tuple[Source, ...]:
    if not isinstance(value, list | tuple | Mapping) or not 0 < len(value) <= MOST_ADDRESSES:
        shown = "missing" if value is None else f"{value!r:.80}"
        raise ValueError(
            f"ips: {shown}: expected 1 to {MOST_ADDRESSES} IP addresses in a list, or an object of address and EHLO name"
        )
    names: Mapping[Any, Any] = value if isinstance(value, Mapping) else {}
    sources: dict[str, Source] = {}
    for item in value:
        try:
            address = parse_source_address(item)
        except ValueError as error:
            raise ValueError(f"ips: {error}") from None
        if address in sources:
            raise ValueError(f"ips: {item!r:.80}: expected each address once")
        own = names.get(item)
        sources[address] = Source(address, helo if own in (None, "") else _parse_helo("ips", own))
    return tuple(sources.values())
