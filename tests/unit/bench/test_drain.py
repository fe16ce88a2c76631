"""The reader of results counts whole messages, however they are cut into frames."""

import struct
from pathlib import Path

import pytest

from tests.bench.drain import Deliveries, read_count

DELIVER = memoryview(struct.pack(">HH", 60, 60))


def header(size: int) -> memoryview:
    return memoryview(struct.pack(">HHQH", 60, 0, size, 0))


def test_a_message_counts_when_its_last_octet_is_there() -> None:
    deliveries = Deliveries()
    for kind, payload in ((1, DELIVER), (2, header(10)), (3, memoryview(b"12345"))):
        deliveries.take(kind, payload)
    assert deliveries.whole == 0
    deliveries.take(3, memoryview(b"67890"))
    assert deliveries.whole == 1


def test_an_empty_message_counts() -> None:
    deliveries = Deliveries()
    deliveries.take(1, DELIVER)
    deliveries.take(2, header(0))
    assert deliveries.whole == 1


def test_a_closed_channel_is_an_error() -> None:
    with pytest.raises(ConnectionError):
        Deliveries().take(1, memoryview(struct.pack(">HHH", 20, 40, 404)))


def test_the_count_is_0_before_the_first(tmp_path: Path) -> None:
    assert read_count(tmp_path / "none") == 0
    (tmp_path / "some").write_bytes(struct.pack(">Q", 12))
    assert read_count(tmp_path / "some") == 12
