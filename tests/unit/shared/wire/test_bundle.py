"""Records that share a message."""

import json

from hypothesis import given
from hypothesis import strategies as st

from shared.wire.bundle import MOST_OCTETS, MOST_RECORDS, bundle


def test_one_record_stays_as_it_is() -> None:
    assert list(bundle([b'{"id": "a"}'])) == [(b'{"id": "a"}', 1)]
    assert list(bundle([])) == []


def test_a_message_holds_so_many_and_no_more() -> None:
    counts = [count for _, count in bundle([b"{}"] * (2 * MOST_RECORDS + 1))]
    assert counts == [MOST_RECORDS, MOST_RECORDS, 1]
    large = b'"' + b"x" * (MOST_OCTETS - 2) + b'"'
    assert [count for _, count in bundle([b"{}", large, b"{}", large + b" "])] == [1, 1, 1, 1]


@given(st.lists(st.integers(0, MOST_OCTETS), max_size=100))
def test_all_records_are_there_in_their_order(sizes: list[int]) -> None:
    records = [json.dumps({"n": number, "x": "x" * size}) for number, size in enumerate(sizes)]
    read = []
    for body, count in bundle([record.encode() for record in records]):
        value = json.loads(body)
        read += value if isinstance(value, list) else [value]
        assert count == (len(value) if isinstance(value, list) else 1)
    assert [json.dumps(record) for record in read] == records
