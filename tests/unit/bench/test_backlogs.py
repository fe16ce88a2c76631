"""Backlogs: what arrived, read with little memory; rates of tenths, medians, memory over the course of it."""

from pathlib import Path

import pytest

from deploy.stack.places import StackError
from tests.bench.backlog import BacklogResult, Growth, check_room, find_growth
from tests.bench.queued import Drained, QueuedJob, find_rates
from tests.bench.scaling import summarize
from tests.bench.tally import read_tally
from tests.support.ledger import Ledger, LedgerWriter, Session


def store(folder: Path, *recipients: str, size: int = 100, keep_content: bool = True) -> Path:
    writer = LedgerWriter(folder, keep_content=keep_content)
    for recipient in recipients:
        writer.store(b"x" * size, reverse_path="a@b.example", recipients=[(recipient, {})], session=Session())
    writer.close()
    return writer.path


@pytest.mark.parametrize("keep_content", [True, False])
def test_a_tally_agrees_with_the_ledger(tmp_path: Path, keep_content: bool) -> None:
    store(tmp_path, *(f"r{number:07}@k.example" for number in range(1, 501)), keep_content=keep_content)
    store(tmp_path, *(f"r{number:07}@k.example" for number in range(501, 601)), keep_content=keep_content)
    tally = read_tally(tmp_path, "k.example", 600)
    assert list(tally.arrivals) == pytest.approx([mail.time.timestamp() for mail in Ledger(tmp_path).mails()])
    assert tally.find_faults(100) == []


def test_lost_doubled_strange_and_small_mail_is_found(tmp_path: Path) -> None:
    store(tmp_path, "r0000001@k.example", "r0000003@k.example", "r0000003@k.example")
    store(tmp_path, "r0000005@k.example", "r0000001@j.example", "someone@k.example", size=99)
    assert read_tally(tmp_path, "k.example", 4).find_faults(100) == [
        "2 mails lost",
        "1 mails doubled",
        "3 mails that nobody sent",
        "a mail of 99 octets",
    ]


def test_the_first_copy_says_when(tmp_path: Path) -> None:
    store(tmp_path, "r0000001@k.example", "r0000001@k.example")
    first = Ledger(tmp_path).mails()[0]
    assert read_tally(tmp_path, "k.example", 1).arrivals[0] == pytest.approx(first.time.timestamp())


def test_a_record_that_is_being_written_does_not_count_yet(tmp_path: Path) -> None:
    path = store(tmp_path, "r0000001@k.example", "r0000002@k.example")
    path.write_bytes(path.read_bytes()[:-1])
    assert read_tally(tmp_path, "k.example", 2).find_faults(100) == ["1 mails lost"]


def test_no_mail_at_all(tmp_path: Path) -> None:
    assert read_tally(tmp_path / "none", "k.example", 2).find_faults(100) == ["2 mails lost", "a mail of 0 octets"]


def test_rates_of_all_and_of_the_first_and_the_last_tenth() -> None:
    slow_at_first = [float(second) for second in range(2, 22, 2)]  # 10 mails until 20
    fast = [20 + number / 10 for number in range(1, 91)]  # 90 mails until 29
    assert find_rates([*slow_at_first, *fast], 0.0) == pytest.approx((100 / 29, 0.5, 10.0))


def test_backlogs_have_recipients_of_their_own() -> None:
    assert QueuedJob("b", 5, 10, 0, name="k-1").domain == "k-1.bench.example"


def test_medians_with_one_sender_and_with_two_of_what_counts() -> None:
    one = [Drained(rate, busy=0.9, cpu={"smtp-sender": 4000.0, "sink": rate}) for rate in (100.0, 120.0, 90.0)]
    two = [Drained(rate, busy=0.8, cpu={"smtp-sender": 1.0}) for rate in (170.0, 180.0)]
    result = summarize("sealed", 3000, {1: one, 2: [*two, Drained(1.0, faults=("1 mails lost",))]})
    assert (result.rates, result.busy) == ({1: 100.0, 2: 175.0}, {1: 0.9, 2: 0.8})
    assert (result.ratio, result.share) == (1.75, 4000 / 4100)
    assert result.faults == ("2 smtp-sender: 1 mails lost",)


def test_no_ratio_when_nothing_counts() -> None:
    result = summarize("sealed", 3000, {1: [Drained(faults=("no progress",))], 2: []})
    assert (result.ratio, result.share, result.rates) == (None, None, {})


def test_memory_is_that_at_the_peak_of_each_part() -> None:
    small = [(0, {"rabbitmq": 50}), (10, {"rabbitmq": 70}), (10, {"rabbitmq": 60})]
    sizes = {0: 900, 99: 910, 100: 100, 150: 120, 199: 110, 200: 999, 749: 999, 750: 121, 999: 125, 1000: 130}
    large = [(arrived, {"rabbitmq": octets}) for arrived, octets in sizes.items()]
    growth = find_growth(small, large)["rabbitmq"]
    assert growth == Growth(small=70, first=910, early=120, late=130)
    assert growth.ratio == pytest.approx(130 / 120)
    assert find_growth([], []) == {}


def test_the_rate_over_that_of_a_small_backlog() -> None:
    assert BacklogResult(1_000_000, 1000.0, 950.0).ratio == 0.95
    assert BacklogResult(1_000_000).ratio is None


def test_a_disk_that_is_too_full_is_told_before(tmp_path: Path) -> None:
    check_room(tmp_path, 0)
    with pytest.raises(StackError, match=r"\(k\) 999,999,999,999 mails need 12000000\.0 GB of disk, and only .* --outbox"):
        check_room(tmp_path, 999_999_999_999)
