"""Texts with ``*`` for any text, as rules and response patterns have them. Case-insensitive, and linear in the length of the value."""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Fold = Callable[[str], str]
"""Brings a pattern and a value to the form in which they are compared."""
_Pieces = tuple[str, tuple[str, ...], str]


def matches(pattern: str, value: str) -> bool:
    """Is ``value`` of the form ``pattern``? A regular expression with many ``*`` would not be linear."""
    folded, text = pattern.casefold(), value.casefold()
    pieces = _cut(folded)
    return text == folded if pieces is None else _fits(pieces, text)


def fold_text(text: str) -> str:
    """For texts that people write: ``STRASSE`` is ``Straße``; composed and decomposed letters are the same."""
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def fold_address(text: str) -> str:
    """For addresses and domains: upper and lower case are the same, ``straße.example`` and ``strasse.example`` are two domains."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Patterns, prepared: a long list of texts without ``*`` costs no more than a short one."""

    texts: frozenset[str]
    """Those without ``*``."""
    forms: tuple[_Pieces, ...]

    def matches(self, values: Iterable[str]) -> bool:
        """Is any of the values, folded as the patterns were, of any of the forms?"""
        for value in values:
            if value in self.texts:
                return True
            for pieces in self.forms:
                if _fits(pieces, value):
                    return True
        return False


def compile_patterns(patterns: Sequence[str], fold: Fold) -> AnyOf:
    """``patterns``, each folded by ``fold``."""
    folded = dict.fromkeys(map(fold, patterns))
    cut = {pattern: _cut(pattern) for pattern in folded}
    texts = frozenset(pattern for pattern, pieces in cut.items() if pieces is None)
    return AnyOf(texts, tuple(pieces for pieces in cut.values() if pieces is not None))


def _cut(pattern: str) -> _Pieces | None:
    """What stands before the first ``*``, between them, and after the last; None when there is no ``*``."""
    first, *rest = pattern.split("*")
    return (first, tuple(piece for piece in rest[:-1] if piece), rest[-1]) if rest else None


def _fits(pieces: _Pieces, text: str) -> bool:
    first, middle, last = pieces
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    position, end = len(first), len(text) - len(last)
    for piece in middle:
        position = text.find(piece, position, end)
        if position < 0:
            return False
        position += len(piece)
    return True
