"""Whatever JSON a client sends becomes mails, or a reason why not: the checks of the fuzz target, on documents that nearly are mails."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.json_target import SEEDS, judge

NAMES = sorted({name for seed in SEEDS[:2] for name in json.loads(seed[1:])} | set(json.loads(SEEDS[2][1:])[0]) | {"key"})
TEXTS = st.text(max_size=10) | st.sampled_from(
    ["b@example.org", "x\r\ny", "\0", "\u2028", "mine/x", "mine/../x", "eA==", "2030-01-01 00:00:00"]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    TEXTS | st.integers(-(2**70), 2**70) | st.booleans() | st.none() | st.floats(allow_nan=True),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | TEXTS, inner, max_size=3),
    max_leaves=8,
)
MAILS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4).map(
    lambda more: {"recipient": "b@example.org", "mime": "Subject: x\r\n\r\ny\r\n"} | more
)


@given(st.integers(0, 3), MAILS | st.lists(MAILS | VALUES, max_size=3) | VALUES)
@settings(max_examples=200, deadline=None)
def test_it_is_a_mail_or_it_is_said_why_not(choice: int, value: object) -> None:
    told = judge(bytes([choice]) + json.dumps(value).encode())
    if told is not None:
        is_line = bool(choice & 2)  # of NDJSON: one message, whatever it is
        assert len(told) == (len(value) if isinstance(value, list) and not is_line else 1)


def test_both_ends_are_reached() -> None:
    """Or nothing above would say anything about mails."""
    told = [judge(seed) for seed in SEEDS]
    assert told == [["a mail"], ["a mail"], ["smarthost", "None", "None"], ["a mail", "None"], ["None"]]
