"""Which of many texts may be in a reply? Found without looking for each of them.

Every text is filed under one piece of it of PIECE characters, the one that the fewest others have; a reply is cut into all its
pieces once.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

PIECE = 4
"""Characters of a piece."""


class TextIndex:
    """Built once for a list of entries: each is a sequence of alternatives, and each of these a sequence of parts."""

    def __init__(self, entries: Sequence[Sequence[Sequence[str]]]) -> None:
        """An entry without alternatives, or with one that is too short to file, is always a candidate."""
        counts = Counter(piece for entry in entries for parts in entry for piece in {*_cut_all(parts)})
        self._filed: dict[str, list[int]] = defaultdict(list)
        self._always: list[int] = []
        for number, entry in enumerate(entries):
            pieces = {min(_cut_all(parts), key=lambda piece: counts[piece], default="") for parts in entry}
            if not pieces or "" in pieces:
                self._always.append(number)
                continue
            for piece in pieces:
                self._filed[piece].append(number)

    def find_candidates(self, text: str) -> list[int]:
        """The entries, in order, of which ``text`` may have an alternative. No other has one in it."""
        found: set[int] = set()
        for piece in {text[start : start + PIECE] for start in range(len(text) - PIECE + 1)} & self._filed.keys():
            found.update(self._filed[piece])
        return sorted((*self._always, *found))


def _cut_all(parts: Iterable[str]) -> list[str]:
    return [part[start : start + PIECE] for part in parts for start in range(len(part) - PIECE + 1)]
