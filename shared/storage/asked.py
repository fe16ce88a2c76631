"""What may be asked of the records: parameters of searches and counters, from HTTP and the command line alike. Pure."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import idna

from shared.delivery.patterns import BounceClass
from shared.mail.address import InvalidAddress, domain_to_ascii
from shared.mail.duration import parse_duration

MAX_TEXT = 1024
"""Characters of an address in the records."""
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)


class BadParameter(ValueError):
    """A parameter is wrong; the text begins with its name and says what was expected."""

    def __init__(self, field: str, value: str, expected: str) -> None:
        shown = f": {value[:80]!a}" if value else ""
        super().__init__(f"{field}{shown}: expected {expected}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Party:
    """A sender or recipient that is asked for."""

    spellings: tuple[str, ...] = ()
    """The address, A to Z in lower case, its domain in every spelling. () when a domain is asked for."""
    domain: tuple[str, ...] = ()
    """``*@domain``: the domain in every spelling."""


def check_names(given: Mapping[str, str], known: Collection[str]) -> None:
    """Raises BadParameter for a parameter that does not exist."""
    for name in given:
        if name not in known:
            raise BadParameter(name[:80], "", f"one of {', '.join(known)}")


def parse_party(field: str, text: str) -> Party:
    """An address, or ``*@domain``; empty or ``<>`` for the sender is the null reverse-path. Raises BadParameter."""
    bare = text.strip()
    if field == "sender" and bare in ("", "<>"):
        return Party(spellings=("",))
    local, at, domain = bare.rpartition("@")
    if bare.lower() != "postmaster" and not (at and local and domain):
        raise BadParameter(field, text, "an address, or *@domain")
    if len(bare) > MAX_TEXT or not bare.isprintable():
        raise BadParameter(field, text, f"an address of at most {MAX_TEXT} printable characters")
    if local == "*":
        return Party(domain=parse_domain(field, domain))
    if not at:
        return Party(spellings=(lower_ascii(bare),))
    return Party(spellings=tuple(lower_ascii(f"{local}@{spelling}") for spelling in spell_domain(domain)))


def parse_domain(field: str, text: str) -> tuple[str, ...]:
    """A domain, in every spelling. Raises BadParameter."""
    bare = text.strip()
    if not bare or "*" in bare or "@" in bare or len(bare) > MAX_TEXT or not bare.isprintable():
        raise BadParameter(field, text, "a domain, without * (domains below it are not looked for)")
    return spell_domain(bare)


def parse_class(field: str, text: str) -> str:
    """A bounce class, as results tell it: patterns of an operator's own give none but these. Raises BadParameter."""
    return parse_choice(field, text, tuple(BounceClass))


def parse_choice(field: str, text: str, choices: Collection[str]) -> str:
    """One of ``choices``. Raises BadParameter."""
    if text not in choices:
        raise BadParameter(field, text, f"one of {', '.join(choices)}")
    return text


def parse_number(field: str, text: str, most: int) -> int:
    """1 to ``most``. Raises BadParameter."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
        raise BadParameter(field, text, f"a number from 1 to {most}")
    return int(text)


def parse_flag(field: str, text: str) -> bool:
    """``true`` or ``false``. Raises BadParameter."""
    if text not in ("true", "false"):
        raise BadParameter(field, text, "true or false")
    return text == "true"


def parse_moment(field: str, text: str, now: datetime) -> int:
    """Unix seconds of ``2026-11-23 04:00:00`` (UTC), RFC 3339 (``2026-11-23T05:00:00+01:00``), a day, or so long ago (``2h``).

    Raises BadParameter.
    """
    bare = text.strip()
    try:
        if _MOMENT.fullmatch(bare):
            moment = datetime.fromisoformat(bare)
            return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        if not bare[-1:].isdigit():
            return max(0, int((now - min(parse_duration(bare), timedelta(days=36_525))).timestamp()))
    except (ValueError, OverflowError):
        pass
    raise BadParameter(field, text, "a time (2026-11-23 04:00:00, UTC), a day (2026-11-23), or how long ago (2h, 720h)")


def spell_domain(domain: str) -> tuple[str, ...]:
    """The domain in lower case as given, as A-labels and as U-labels (RFC 5890), without doubles."""
    found = [domain.lower()]
    try:
        plain = domain_to_ascii(domain)
        found.append(plain)
        if "xn--" in plain:
            found.append(idna.decode(plain))
    except (InvalidAddress, idna.IDNAError, UnicodeError):
        pass  # What is recorded may be no domain at all: it is looked for as it is.
    return tuple(dict.fromkeys(found))


def lower_ascii(text: str) -> str:
    """A to Z in lower case and nothing else, as Postgres does with COLLATE "C"."""
    return "".join(char.lower() if char.isascii() else char for char in text)
