"""What a rule may ask of a mail (``configuration.params``): which parameters there are, and what each looks at."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import idna

from shared.delivery.wildcards import AnyOf, Fold, compile_patterns, fold_address, fold_text
from shared.mail.address import InvalidAddress, domain_to_ascii
from shared.mail.fields import NAME
from shared.mail.headers import decode_words, parse_extract
from shared.mail.structured import StructuredMailError, render_mail
from shared.wire.message import Message, parse_inline_content

PARAMS = ("channel", "sender", "sender_domain", "recipient", "recipient_domain", "subject", "tag", "size_over")
"""What a rule may ask for, besides ``header.<name>``."""
CHANNELS = ("smtp", "json", "amqp", "actions")
"""How a mail can come in."""
HEADER = "header."
_SIZE = "size_over"
_ADDRESSES = frozenset({"sender", "sender_domain", "recipient", "recipient_domain"})
_MOST_SHOWN = 3
"""Values and patterns that are shown of a long list."""
_SHOWN = 60
"""Characters that are shown of a long text."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One parameter of a rule, prepared."""

    param: str
    patterns: tuple[str, ...]
    """As they were given."""
    any_of: AnyOf | None
    """None for ``size_over``."""
    least: int = 0
    """Of ``size_over``: more octets than this."""


class Facts:
    """What rules look at in one mail, each found out when a rule first asks for it.

    A mail that came over our inboxes brings ``extracted`` and ``size``. For one that an application published they are taken from
    the content in it; of content that lies in the message store nothing is known here.
    """

    __slots__ = ("_extracted", "_folded", "_message", "_size", "_values")

    def __init__(self, message: Message) -> None:
        self._message = message
        self._values: dict[str, tuple[str, ...]] = {}
        self._folded: dict[str, tuple[str, ...]] = {}
        self._extracted: Mapping[str, Any] | None = None
        self._size: int | None = None

    def values(self, param: str) -> tuple[str, ...]:
        """What the mail has for a parameter; empty when it has nothing."""
        known = self._values.get(param)
        if known is None:
            known = self._values[param] = tuple(self._find(param))
        return known

    def fit_all(self, conditions: Sequence[Condition]) -> bool:
        """Does the mail have all that a rule asks for?"""
        for condition in conditions:  # noqa: SIM110 - a generator for each rule costs more than the comparison
            if not self.fits(condition):
                return False
        return True

    def fits(self, condition: Condition) -> bool:
        """Does the mail have what the condition asks for?"""
        if condition.any_of is None:
            values = self.values(_SIZE)
            return bool(values) and int(values[0]) > condition.least
        folded = self._folded.get(condition.param)
        if folded is None:
            folded = self._folded[condition.param] = tuple(_fold_values(condition.param, self.values(condition.param)))
        return condition.any_of.matches(folded)

    def _find(self, param: str) -> Iterable[str]:
        if param.startswith(HEADER):
            return self._header(param.removeprefix(HEADER).lower())
        return _LOOK[param](self)

    def _subjects(self) -> list[str]:
        """All of them, decoded: a second Subject must not hide from a rule what some program shows."""
        values = [decode_words(value) for value in self._raw_header("subject")]
        return values or [str(first) for first in [self._extract().get("subject")] if first is not None]

    def _header(self, name: str) -> list[str]:
        """As they stand in the mail and, where they have encoded words (RFC 2047), decoded as well."""
        values = self._raw_header(name)
        return list(dict.fromkeys([*values, *(decode_words(value) for value in values if "=?" in value)]))

    def _raw_header(self, name: str) -> list[str]:
        headers = self._extract().get("headers")
        value = headers.get(name) if isinstance(headers, Mapping) else None
        if value is None:
            return []
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]

    def _octets(self) -> list[str]:
        size = self._message.document.get("size")
        if not isinstance(size, int) or isinstance(size, bool):
            self._extract()
            size = self._size
        return [] if size is None else [str(size)]

    def _extract(self) -> Mapping[str, Any]:
        if self._extracted is None:
            self._extracted = self._look_inside()
        return self._extracted

    def _look_inside(self) -> Mapping[str, Any]:
        document = self._message.document
        known = document.get("extracted")
        if isinstance(known, Mapping) and "headers" in known:
            return known
        content = _read_content(self._message)
        if content is None:
            return {}
        self._size = len(content)
        return parse_extract(content)


def _read_content(message: Message) -> bytes | None:
    """The content that the mail itself carries; None when it has none, or none that can be sent (its sender says why)."""
    try:
        content = parse_inline_content(message)
        mime = message.document.get("mime")
        if content is None and isinstance(mime, dict):
            content = render_mail(mime, now=message.seen, message_id_domain="localhost", ident=message.id)
    except (ValueError, KeyError, StructuredMailError):
        return None
    return content


def _domain(address: str) -> str:
    return address.rpartition("@")[2]


def _tags(facts: Facts) -> list[str]:
    tags = facts._message.document.get("tags")
    return [str(tag) for tag in tags] if isinstance(tags, list) else [] if tags is None else [str(tags)]


_LOOK: Mapping[str, Callable[[Facts], Iterable[str]]] = {
    "channel": lambda facts: (facts._message.channel,),
    "sender": lambda facts: (facts._message.reverse_path,),
    "sender_domain": lambda facts: (_domain(facts._message.reverse_path),),
    "recipient": lambda facts: (facts._message.recipient,),
    "recipient_domain": lambda facts: (_domain(facts._message.recipient),),
    "subject": Facts._subjects,
    "tag": _tags,
    _SIZE: Facts._octets,
}


def _fold_values(param: str, values: Sequence[str]) -> Iterable[str]:
    if param not in _ADDRESSES:
        return map(fold_text, values)
    return [form for value in values for form in spell_domain(fold_address(value))]


def spell_domain(address: str) -> tuple[str, ...]:
    """An address or a domain in all its spellings: as it stands, the domain in A-labels, and in U-labels (RFC 5890)."""
    if address.isascii() and "xn--" not in address:
        return (address,)
    local, at, domain = address.rpartition("@")
    try:
        in_ascii = domain_to_ascii(domain)
        spellings = (domain, in_ascii, idna.decode(in_ascii))
    except (InvalidAddress, idna.IDNAError, UnicodeError):
        return (address,)
    return tuple(dict.fromkeys(f"{local}{at}{spelling}" for spelling in spellings))


def parse_params(params: Any) -> Mapping[str, tuple[str, ...]]:
    """Parameter → patterns. Raises ValueError that names ``configuration.params.<name>``, its value and what was expected."""
    if not isinstance(params, Mapping):
        raise ValueError(f"configuration.params: {params!r:.80}: expected an object")
    return {str(name): _parse_patterns(str(name), value) for name, value in params.items()}


def prepare(params: Mapping[str, tuple[str, ...]]) -> tuple[Condition, ...]:
    """The conditions of a rule, from what ``parse_params`` gave."""
    return tuple(
        Condition(name, patterns, None, int(patterns[0]))
        if name == _SIZE
        else Condition(name, patterns, compile_patterns([_without_brackets(name, one) for one in patterns], _fold_of(name)))
        for name, patterns in params.items()
    )


def explain_mismatch(facts: Facts, conditions: Sequence[Condition]) -> str | None:
    """The first parameter that does not match, in words; None when all match."""
    for condition in conditions:
        if facts.fits(condition):
            continue
        param, values = condition.param, facts.values(condition.param)
        if condition.any_of is None:
            return f"{param}: {values[0] if values else 'unknown'} is not over {condition.least}"
        return f"{param}: {list_some(values, ', ') or 'nothing'} does not match {list_some(condition.patterns, ' or ')}"
    return None


def _parse_patterns(name: str, value: Any) -> tuple[str, ...]:
    where = f"configuration.params.{name[:80]}"
    if name not in PARAMS and not (name.startswith(HEADER) and NAME.fullmatch(name.removeprefix(HEADER))):
        raise ValueError(f"{where}: unknown; expected one of {', '.join(PARAMS)}, header.<name>")
    if name == _SIZE:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise ValueError(f"{where}: {value!r:.80}: expected a number of bytes")
        return (str(value),)
    patterns = value if isinstance(value, list | tuple) else [value]
    if not patterns or not all(isinstance(item, str) for item in patterns):
        raise ValueError(f"{where}: {value!r:.80}: expected a text or a list of texts")
    for pattern in patterns:
        _check_possible(name, pattern, where)
    return tuple(patterns)


def _check_possible(name: str, pattern: str, where: str) -> None:
    """A pattern that can never match is a mistake: the mail would silently go another way."""
    if name == "channel" and "*" not in pattern and pattern.lower() not in CHANNELS:
        raise ValueError(f"{where}: {pattern!r:.80}: expected one of {', '.join(CHANNELS)}")
    if name in ("sender_domain", "recipient_domain") and "@" in pattern:
        raise ValueError(f"{where}: {pattern!r:.80}: expected a domain, without @")


def _without_brackets(name: str, pattern: str) -> str:
    """``<>`` is how mail people write the null reverse-path."""
    return "" if name == "sender" and pattern == "<>" else pattern


def _fold_of(name: str) -> Fold:
    return fold_address if name in _ADDRESSES else fold_text


def list_some(texts: Sequence[str], separator: str) -> str:
    """Values or patterns for people: the first few of many, the beginning of a long one."""
    shown = [text if len(text) <= _SHOWN else text[:_SHOWN] + "…" for text in islice(texts, _MOST_SHOWN)]
    more = [f"{len(texts) - _MOST_SHOWN} more"] if len(texts) > _MOST_SHOWN else []
    # An empty pattern is the null reverse-path; shown as nothing it could not be seen.
    return separator.join([*(text or ("''" if len(texts) > 1 or separator != ", " else "") for text in shown), *more])
