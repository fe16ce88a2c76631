"""Hops as spans, and their way to collectors of every kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import Counter

from shared.spans import RecordedSpans
from shared.spans_export import BATCH, DROPPED, MOST_WAITING, SENT, SpanQueue
from shared.wire.trace import Trace, parse_trace
from tests.support.otlp import Collector
from tests.support.waiting import free_ports, wait_until

SAMPLED = Trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=1")
UNSAMPLED = Trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Takes everything."""
    with Collector() as collector:
        yield collector


def total(counter: Counter) -> float:
    """Of all labels."""
    return sum(sample.value for metric in counter.collect() for sample in metric.samples if sample.name.endswith("_total"))


def make(spans: RecordedSpans, count: int = 1) -> None:
    """Hops of mail that was routed."""
    for _ in range(count):
        with spans.open_message("route", "inbox", 7, None) as hop:
            hop.tell({"mailwarren.id": "x"})


def test_a_hop_that_was_told_something_is_a_span(collector: Collector) -> None:
    spans = RecordedSpans("router", collector.endpoint, 1.0)
    with spans.open_message("route", "inbox", 7, SAMPLED) as hop:
        assert hop.trace == SAMPLED
        hop.tell({"mailwarren.id": "x"})
        passed_on = hop.trace
    with spans.open_message("deliver", "outbox", 7, SAMPLED) as put_off:
        assert put_off.trace == SAMPLED
    with pytest.raises(ZeroDivisionError), spans.open_message("deliver", "outbox", 7, passed_on):
        raise ZeroDivisionError
    spans.close()
    (routed,), (failed,) = collector.named("route inbox"), collector.named("deliver outbox")
    assert passed_on == Trace(f"00-{routed.trace_id}-{routed.span_id}-01", "a=1")
    assert (routed.parent_id, routed.is_error, routed.facts["messaging.message.body.size"]) == ("00f067aa0ba902b7", False, 7)
    assert (failed.parent_id, failed.is_error, failed.facts["error.type"]) == (routed.span_id, True, "ZeroDivisionError")


def test_who_decides_whether_it_is_recorded(collector: Collector) -> None:
    never, always = (RecordedSpans("router", collector.endpoint, sample) for sample in (0.0, 1.0))
    hop = never.open_request("smtp receive", {}, None)
    assert hop.trace is not None
    assert parse_trace(hop.trace.traceparent) == hop.trace
    assert not hop.trace.is_sampled
    with always.open_message("route", "inbox", 1, hop.trace) as following:
        following.tell({"mailwarren.id": "x"})
        assert following.trace == hop.trace
    with never.open_message("route", "inbox", 1, SAMPLED) as following:
        following.tell({"mailwarren.id": "y"})
    assert always.open_batch("record", "records", [UNSAMPLED, None]) is None
    batch = always.open_batch("record", "records", [SAMPLED, UNSAMPLED, SAMPLED, None])
    assert batch is not None
    with batch:
        pass
    never.close()
    always.close()
    assert [span.facts["mailwarren.id"] for span in collector.named("route inbox")] == ["y"]
    (recorded,) = collector.named("record records")
    assert (recorded.parent_id, recorded.links) == ("", frozenset([("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")]))
    assert recorded.facts["messaging.batch.message_count"] == 4


@pytest.mark.parametrize(("manner", "is_taken"), [("endless", True), ("500", False), ("404", False), ("301", False)])
def test_a_strange_answer_ends_the_request(manner: str, is_taken: bool) -> None:
    sent_before, dropped_before = total(SENT), total(DROPPED)
    with Collector(manner) as collector:
        spans = RecordedSpans("router", collector.endpoint, 1.0)
        make(spans, 3)
        wait_until(lambda: total(SENT) - sent_before + total(DROPPED) - dropped_before == 3)
        assert (total(DROPPED) == dropped_before) is is_taken
        assert collector.requests == 1
        spans.close()


@pytest.mark.parametrize("manner", ["silent", "away"])
def test_with_nobody_to_take_them_spans_are_dropped_and_the_process_ends(manner: str) -> None:
    before = total(DROPPED)
    with Collector("silent") as collector:
        endpoint = collector.endpoint if manner == "silent" else f"http://127.0.0.1:{free_ports(1)[0]}"
        spans = RecordedSpans("router", endpoint, 1.0)
        # A batch is in the hands of the thread, or two.
        make(spans, MOST_WAITING + 2 * BATCH + 1)
        assert total(DROPPED) > before
        spans.close()
        make(spans)
        queue = SpanQueue(endpoint)
        queue.shutdown()


def test_after_a_while_away_the_collector_gets_what_waited() -> None:
    with Collector("503") as collector:
        spans = RecordedSpans("router", collector.endpoint, 1.0)
        make(spans)
        wait_until(lambda: collector.requests)
        collector.manner = "200"
        wait_until(lambda: collector.named("route inbox"))
        spans.close()
