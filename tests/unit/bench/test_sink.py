"""Counting a ledger by its heads agrees with reading it; what was lost, doubled or strange is found."""

from pathlib import Path

from tests.bench.sink import Arrived, RecordCounter, Sink
from tests.support.ledger import Ledger, LedgerWriter, Session


def store(writer: LedgerWriter, *recipients: str, size: int = 100) -> None:
    for recipient in recipients:
        writer.store(b"x" * size, reverse_path="a@b.example", recipients=[(recipient, {})], session=Session())


def test_the_count_goes_on_where_it_stopped(tmp_path: Path) -> None:
    writer, counter = LedgerWriter(tmp_path, keep_content=False), RecordCounter(tmp_path)
    assert counter.count() == 0
    store(writer, *(f"{number}@c.example" for number in range(5000)))
    assert counter.count() == 5000 == Ledger(tmp_path).count()
    assert counter.count() == 5000
    store(writer, "more@c.example", "again@c.example")
    assert counter.count() == 5002
    writer.close()


def test_a_record_that_is_being_written_does_not_count_yet(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path)
    store(writer, "one@c.example", "two@c.example")
    writer.close()
    whole = writer.path.read_bytes()
    writer.path.write_bytes(whole[:-1])
    counter = RecordCounter(tmp_path)
    assert counter.count() == 1
    writer.path.write_bytes(whole)
    assert counter.count() == 2


def test_lost_doubled_and_strange_mail_is_found(tmp_path: Path) -> None:
    writer = LedgerWriter(tmp_path, keep_content=False)
    store(writer, "1@now.example", "2@now.example", "2@now.example", "9@before.example")
    store(writer, "4@now.example", size=7)
    writer.close()
    arrived = Sink(tmp_path, "127.0.0.1:0").read()
    assert (arrived.mails, arrived.surplus, arrived.smallest) == (5, 1, 7)
    assert arrived.count_lost(4, "now.example") == 1
    assert arrived.count_strange("now.example") == 1
    assert 0 < arrived.first <= arrived.last


def test_an_empty_ledger_has_lost_everything(tmp_path: Path) -> None:
    arrived: Arrived = Sink(tmp_path, "127.0.0.1:0").read()
    assert arrived.count_lost(10, "now.example") == 10
