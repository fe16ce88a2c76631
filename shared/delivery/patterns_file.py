"""Reads the files of response patterns (TOML, ``docs/patterns.md``). Strict: whatever is not understood is a BadSetting."""

import math
import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, TypeVar

from shared.delivery.patterns import BounceClass, Conditions, Match, Pattern, Patterns, order_patterns
from shared.delivery.patterns_regex import compile_regex
from shared.mail.duration import parse_duration
from shared.trouble import BadSetting
from shared.wire.result import FIELDS, MAX_DESCRIPTION, Result, State

SHIPPED = Path(__file__).with_name("patterns.toml")
"""The patterns that come with us."""
CONDITIONS = ("state", "result", "code", "status", "text", "regex", "destination", "host", "source", "tag")
FLAGS = ("fatal", "individual", "strange", "greylisted", "fallback")
KEYS = ("name", "priority", *CONDITIONS, "class", *FLAGS, "interval", "tags", "set")
"""Every key of a pattern."""

MOST_PATTERNS = 2000
_ANY = range(1000)
_STATUS_PART = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")
T = TypeVar("T")


def load_patterns(path: str = "") -> Patterns:
    """The patterns of the file ``path`` ("" = none), then the shipped ones. Raises BadSetting."""
    return order_patterns(read_patterns(Path(path)) if path else (), read_shipped())


@cache
def read_shipped() -> tuple[Pattern, ...]:
    """The patterns that come with us, in the order of their file."""
    return parse_patterns(SHIPPED.read_text(encoding="utf-8"), SHIPPED.name)


def read_patterns(path: Path) -> tuple[Pattern, ...]:
    """The patterns of one file. Raises BadSetting."""
    try:
        return parse_patterns(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise BadSetting(f"response-patterns: {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadSetting(f"response-patterns: {path}: byte {error.start + 1}: not UTF-8") from None


def parse_patterns(text: str, file: str) -> tuple[Pattern, ...]:
    """The patterns in ``text``; ``file`` names it in messages. Raises BadSetting: file, pattern, key, value, what was expected."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadSetting(f"{file}: {str(error) or 'nested too deep'}") from None
    if unknown := set(document) - {"pattern"}:
        raise BadSetting(f"{file}: {min(unknown)!r:.80}: unknown; expected only [[pattern]]")
    entries = document.get("pattern", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadSetting(f"{file}: pattern: {entries!r:.80}: expected [[pattern]], a table for every pattern")
    if len(entries) > MOST_PATTERNS:
        raise BadSetting(f"{file}: {len(entries)} patterns: expected at most {MOST_PATTERNS}")
    return tuple(_parse_pattern(entry, file, number) for number, entry in enumerate(entries, start=1))


def _parse_pattern(entry: Mapping[str, Any], file: str, number: int) -> Pattern:
    where = f"{file}, pattern {number}"
    for key in entry:
        if key not in KEYS:
            raise BadSetting(f"{where}: {key!r:.80}: unknown; expected one of {', '.join(KEYS)}")

    def parse(key: str, parser: Callable[[Any], T], default: T) -> T:
        if key not in entry:
            return default
        try:
            return parser(entry[key])
        except ValueError as error:
            raise BadSetting(f"{where}: {key}: {entry[key]!r:.200}: {error}") from None

    conditions = Conditions(
        states=parse("state", _each(_state, frozenset), frozenset()),
        results=parse("result", _each(_result, frozenset), frozenset()),
        codes=frozenset().union(*parse("code", _each(_codes, tuple), ())),
        statuses=parse("status", _each(_status, tuple), ()),
        texts=parse("text", _each(_text, tuple), ()),
        regex=parse("regex", _regex, None),
        destinations=parse("destination", _each(_word, tuple), ()),
        hosts=parse("host", _each(_word, tuple), ()),
        sources=parse("source", _each(_network, tuple), ()),
        tags=parse("tag", _each(_word, tuple), ()),
    )
    match = Match(
        file,
        number,
        name=parse("name", _word, ""),
        bounce_class=parse("class", _class, None),
        interval=parse("interval", _interval, None),
        tags=parse("tags", _each(_word, tuple), ()),
        properties=parse("set", _properties, {}),
        **{flag: parse(flag, _flag, None) for flag in FLAGS},
    )
    if not set(entry) - {"name", "priority", *CONDITIONS}:
        raise BadSetting(f"{where}: says nothing; expected class, {', '.join(FLAGS)}, interval, tags or set")
    written = {key: _spell(entry[key]) for key in CONDITIONS if key in entry}
    return Pattern(conditions, match, parse("priority", _priority, 0), written)


def _each(parser: Callable[[Any], T], gather: Callable[[list[T]], Any]) -> Callable[[Any], Any]:
    """One value, or a list of at least one."""

    def parse(value: Any) -> Any:
        values = value if isinstance(value, list) else [value]
        if not values:
            raise ValueError("expected at least one value")
        return gather([parser(one) for one in values])

    return parse


def _spell(value: Any) -> str:
    return " or ".join(str(one) for one in value) if isinstance(value, list) else str(value)


def _state(value: Any) -> State:
    try:
        return State(value)
    except ValueError:
        raise ValueError(f"expected one of {', '.join(State)}") from None


def _result(value: Any) -> Result:
    refusals = [one for one in Result if one is not Result.ACCEPTED]
    if value not in refusals:
        raise ValueError(f"expected one of {', '.join(refusals)}")
    return Result(value)


def _codes(value: Any) -> frozenset[int]:
    text = str(value).lower()
    if isinstance(value, bool) or not re.fullmatch("[2-5]([0-9]([0-9]|x)|xx)", text):
        raise ValueError('expected an SMTP code such as 550, or "55x", "5xx" for any of them')
    return frozenset(range(int(text.replace("x", "0")), int(text.replace("x", "9")) + 1))


def _status(value: Any) -> tuple[range, range, range]:
    parts = value.split(".") if isinstance(value, str) else ()
    found = [_status_part(part) for part in parts]
    if len(found) != 3 or None in found:
        raise ValueError('expected an enhanced status code such as "5.1.1"; * for any number, 606-649 for a range')
    first, second, third = found
    assert first is not None and second is not None and third is not None  # noqa: S101, PT018
    return first, second, third


def _status_part(part: str) -> range | None:
    if part == "*":
        return _ANY
    found = _STATUS_PART.fullmatch(part)
    return None if found is None else range(int(found[1]), int(found[2] or found[1]) + 1)


def _text(value: Any) -> tuple[str, ...]:
    if not isinstance(value, str) or len(value) > MAX_DESCRIPTION:
        raise ValueError("expected a text that the reply contains; * stands for anything between")
    parts = tuple(" ".join(part.split()).casefold() for part in value.split("*"))
    if not any(parts):
        raise ValueError("expected a text that the reply contains; leave it out for any reply")
    return tuple(part for part in parts if part)


def _regex(value: Any) -> re.Pattern[str]:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_DESCRIPTION:
        raise ValueError(f"expected a regular expression of 1 to {MAX_DESCRIPTION} characters")
    try:
        return compile_regex(value)
    except ValueError as error:
        raise ValueError(f"{error}; expected a regular expression as Python's re has them") from None


def _word(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
        raise ValueError("expected a text of 1 to 255 printable characters")
    return value


def _network(value: Any) -> IPv4Network | IPv6Network:
    try:
        return ip_network(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("expected an IP address or a network such as 192.0.2.0/24") from None


def _class(value: Any) -> BounceClass:
    try:
        return BounceClass(value)
    except ValueError:
        raise ValueError(f"expected one of {', '.join(BounceClass)}") from None


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _priority(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("expected a whole number, lower is tried first")
    return value


def _interval(value: Any) -> timedelta:
    expected = 'expected seconds such as 600, or "10m", at least one second and at most 30 days'
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(expected)
    try:
        interval = parse_duration(value)
    except (ValueError, OverflowError):
        raise ValueError(expected) from None
    if not timedelta(seconds=1) <= interval <= timedelta(days=30):
        raise ValueError(expected)
    return interval


def _properties(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not value:
        raise ValueError("expected a table of properties for the result, such as { team = 'abuse' }")
    for name, one in value.items():
        if name in FIELDS:
            raise ValueError(f"{name} is a property that the result has of itself; expected another name")
        is_number = isinstance(one, int | float) and math.isfinite(one) and abs(one) < 2**63
        is_text = isinstance(one, str) and len(one) <= MAX_DESCRIPTION and one.isprintable()
        if not name.isprintable() or len(name) > 255 or not (is_number or is_text):
            raise ValueError(f"{name}: expected a text, a number, true or false")
    return value
