"""Texts with ``*``."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.delivery.wildcards import compile_patterns, fold_address, fold_text, matches


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("", "", True), ("", "a", False), ("*", "", True), ("*", "abc", True), ("**", "", True), ("a*", "a", True), ("a*", "ba", False),
        ("*a", "ba", True), ("*a", "ab", False), ("a*a", "a", False), ("a*a", "aa", True), ("a*b*c", "a1b2c", True), ("a*b*c",
        "acb", False),
        ("a*b*c", "abbc", True), ("ab*bc", "abc", False), ("*aa*aa*", "aaa", False), ("*aa*aa*", "aaaa", True), ("?",
        "a", False), ("?", "?", True),
        (".", "a", False), ("[a]", "a", False), ("STRASSE*", "Straße 1", True), ("É", "é", True),
    ],
)  # fmt: skip
def test_wildcards(pattern: str, value: str, expected: bool) -> None:
    assert matches(pattern, value) is expected


@given(st.lists(st.text("ab*", max_size=4), max_size=4), st.text("abc", max_size=8))
def test_prepared_patterns_say_the_same(patterns: list[str], value: str) -> None:
    prepared = compile_patterns(patterns, fold_text)
    assert prepared.matches([value]) is any(matches(pattern, value) for pattern in patterns)


@given(st.text("ab*", max_size=8), st.text("abc", max_size=12))
def test_wildcards_are_what_a_regular_expression_finds(pattern: str, value: str) -> None:
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert matches(pattern, value) is (re.fullmatch(expression, value, re.DOTALL) is not None)


def test_a_hostile_pattern_costs_no_more_than_its_length() -> None:
    began = time.process_time()
    assert matches("*a" * 500 + "*b", "a" * 100_000) is False
    assert matches("a*" * 5000, "a" * 100_000) is True
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("left", "right", "as_text", "as_address"),
    [
        ("ABC", "abc", True, True),
        ("É", "e\u0301", True, True),
        ("BÜCHER.example", "bu\u0308cher.example", True, True),
        ("straße.example", "strasse.example", True, False),
        ("a", "b", False, False),
    ],
    ids=["case", "composed", "composed-domain", "sharp-s", "other"],
)
def test_what_is_the_same(left: str, right: str, as_text: bool, as_address: bool) -> None:
    assert (fold_text(left) == fold_text(right)) is as_text
    assert (fold_address(left) == fold_address(right)) is as_address


def test_a_long_list_of_texts_costs_as_much_as_a_short_one() -> None:
    prepared = compile_patterns([f"d{number}.example" for number in range(100_000)], fold_address)
    began = time.process_time()
    assert not any(prepared.matches(["other.example"]) for _ in range(1000))
    assert prepared.matches(["d99999.example"])
    assert time.process_time() - began < 0.5
