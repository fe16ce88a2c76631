"""What goes into one write."""

from shared.amqp.bulk import MOST, MOST_BYTES, cut


def test_no_write_is_too_large() -> None:
    assert list(cut([], 100)) == []
    assert list(cut([1] * 5, 2)) == [range(2), range(2, 4), range(4, 5)]
    assert [len(piece) for piece in cut([1] * (2 * MOST + 1), 10_000)] == [MOST, MOST, 1]
    half = MOST_BYTES // 2
    assert list(cut([half, half, 1, half, MOST_BYTES + 1, 1], 100)) == [range(2), range(2, 4), range(4, 5), range(5, 6)]
