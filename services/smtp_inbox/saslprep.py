"""Names and passwords of AUTH in the one form that is compared: SASLprep (RFC 4013), as PLAIN demands it (RFC 4616 2). Pure.

Unlike there, characters that Unicode 3.2 did not know are allowed: a password may hold what keyboards have today.
"""

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepare(text: str) -> str:
    """The form that is compared. Raises ValueError when there is none: empty, control characters, directions mixed."""
    if text.isascii():
        prepared = text
    else:
        mapped = (" " if stringprep.in_table_c12(one) else one for one in text if not stringprep.in_table_b1(one))
        prepared = unicodedata.normalize("NFKC", "".join(mapped))
    if not prepared:
        raise ValueError("empty")
    for character in prepared:
        if any(is_in(character) for is_in in _PROHIBITED):
            raise ValueError(f"the character U+{ord(character):04X} is not allowed")
    _check_direction(prepared)
    return prepared


def _check_direction(text: str) -> None:
    """RFC 3454 6."""
    if not any(map(stringprep.in_table_d1, text)):
        return
    if any(map(stringprep.in_table_d2, text)) or not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise ValueError("characters written from the left and from the right are mixed")
