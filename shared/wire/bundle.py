"""Records of accepted mail, several in one message: what a queue costs is the message, not its octets.

A message holds one record, a JSON object, or some, a JSON list of objects. Pure.
"""

from collections.abc import Iterator, Sequence

MOST_RECORDS = 20
"""In one message: what more would save is little, and the recorder's prefetch is counted in messages."""
MOST_OCTETS = 64 * 1024
"""Of the records in one message; a larger one stands alone."""


def bundle(records: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """Bodies for all ``records`` (JSON objects), in their order, each with the number of records in it."""
    group: list[bytes] = []
    size = 0
    for record in records:
        if group and (len(group) == MOST_RECORDS or size + len(record) > MOST_OCTETS):
            yield _join(group), len(group)
            group, size = [], 0
        group.append(record)
        size += len(record)
    if group:
        yield _join(group), len(group)


def _join(group: Sequence[bytes]) -> bytes:
    return group[0] if len(group) == 1 else b"[" + b",".join(group) + b"]"
