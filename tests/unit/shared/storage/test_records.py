"""COPY's text format."""

from shared.storage.records import render_copy


def test_copy_escapes_backslashes_and_knows_null() -> None:
    assert render_copy([("a\\b", None, 7), ("\\N", "", 0)]) == b"a\\\\b\t\\N\t7\n\\\\N\t\t0\n"


def test_copy_of_nothing_is_nothing() -> None:
    assert render_copy([]) == b""
