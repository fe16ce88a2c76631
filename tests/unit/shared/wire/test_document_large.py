"""Large bodies are checked as strictly as small ones, without the content being parsed twice."""

import json

import pytest

from shared.wire.document import WireError, parse_json

# Over a mebibyte, with everything that could lead a shortening astray: quotes, backslashes, braces, line ends.
CONTENT = 'x \\" \\\\ {"a": 1, "a": 2} 123456789012345678901\r\n' * 30_000
TEXT = json.dumps(CONTENT)


def test_what_is_fine_comes_back_whole() -> None:
    document = parse_json(f'{{ "mime": {TEXT}, "n": 18446744073709551615, "e": "\\\\" }}'.encode())
    assert document == {"mime": CONTENT, "n": 18446744073709551615, "e": "\\"}


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ('"b": 1, "b": 2', "property 'b' stands twice"),
        ('"b": [{"c": 1}, {"c": 1, "c": 2}]', "property 'c' stands twice"),
        ('"mime": 2', "property 'mime' stands twice"),
        ('"e": "\\\\", "n": 123456789012345678901', "64 bits"),
        (f"{TEXT}: 1, {TEXT}: 2", "stands twice"),
    ],
)
def test_what_is_not_is_refused(rest: str, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        parse_json(f'{{ "mime": {TEXT}, {rest} }}'.encode())


def test_long_names_that_differ_are_no_duplicates() -> None:
    names = {"a" * 500_000 + end: 1 for end in "bcd"}
    assert parse_json(json.dumps(names, indent=1).encode()) == names
