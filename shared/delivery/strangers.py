"""Whose domains a pattern would take: those below a public suffix (``co.uk``, ``github.io``) belong to whoever has registered them. Pure.

The list is Mozilla's, as its package brings it (https://publicsuffix.org/): a name that is younger than the package is not in it. It is
read when the first wildcard or expression is, not by processes that have none.
"""

import re
from collections.abc import Iterator
from functools import cache

from publicsuffixlist import PublicSuffixList

MOST_WORDS = 24
"""Pieces of plain text in an expression that probes are made of; its domains stand at its end."""

_LOCALS = ("q", "qx7.vz-k", "postmaster", "info", "bounce-qx7", "qx7+vz", "4711")
_NAMES = ("q", "qx7vzk", "mail.qx7-vzk")
_SUFFIXES = ("com", "net", "org", "de", "io", "example", "co.uk", "com.br")
_WORD = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*")


@cache
def _load_list() -> PublicSuffixList:
    return PublicSuffixList()


def is_public_suffix(domain: str) -> bool:
    """Whether strangers may have registered the names right below this domain (lower case, A-labels). So for any single label."""
    return _load_list().is_public(domain)


def find_public_part(labels: list[str]) -> str | None:
    """What stands fixed behind the last ``*`` when all below it is strangers', "" for nothing; None: it is somebody's own."""
    last = max((number for number, label in enumerate(labels) if "*" in label), default=-1)
    fixed = ".".join(labels[last + 1 :])
    return fixed if not fixed or is_public_suffix(fixed) else None


def find_stranger(expression: str, regex: re.Pattern[str]) -> str | None:
    """An address that is nobody's, or a domain, that the expression takes: then it takes anybody's. None: none was found.

    ``regex``: the expression, compiled. That no address was found proves nothing: this is against mistakes.
    """
    words = _WORD.findall(expression.lower().replace("\\.", "."))[-MOST_WORDS:]
    domains = tuple(dict.fromkeys(_make_domains(words)))
    locals_ = dict.fromkeys((*_LOCALS, *(made for word in words for made in (word, f"q{word}", f"{word}q"))))
    found = (address for domain in domains for local in locals_ if regex.fullmatch(address := f"{local}@{domain}"))
    return next(found, None) or _find_domain(expression, domains)


def _make_domains(words: list[str]) -> Iterator[str]:
    for suffix in _SUFFIXES:
        yield from (f"{name}.{suffix}" for name in _NAMES)
    for word in words:
        labels = word.split(".")
        for start in range(len(labels)):
            tail = ".".join(labels[start:])
            if is_public_suffix(tail):
                yield from (f"{name}.{tail}" for name in _NAMES)
            elif "." in tail and (start + 1 == len(labels) or is_public_suffix(".".join(labels[start + 1 :]))):
                # A dot was forgotten: example.com ends notexample.com, too.
                yield f"qx7vzk{tail}"


def _find_domain(expression: str, domains: tuple[str, ...]) -> str | None:
    """Of an expression with one @ the half behind it, for its local part may be one that no probe has."""
    _, _, half = expression.partition("@")
    if "@" in half or not half:
        return None
    try:
        regex = re.compile(half, re.IGNORECASE)
    except re.error:
        return None  # the @ stands in a group
    return next((f"…@{domain}" for domain in domains if regex.fullmatch(domain)), None)
