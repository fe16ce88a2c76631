"""What passes for a trace, at the boundaries of the standard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.wire.trace import Trace, parse_trace, read_http_trace, read_trace, render_headers, render_trace

ID, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{ID}-{SPAN}-01"


def test_its_parts() -> None:
    trace = parse_trace(PARENT, "a=1")
    assert trace == Trace(PARENT, "a=1")
    assert (trace.trace_id, trace.span_id, trace.is_sampled) == (int(ID, 16), int(SPAN, 16), True)
    assert render_trace(trace.trace_id, trace.span_id, is_sampled=True, tracestate="a=1") == trace
    assert render_headers(trace) == {"traceparent": PARENT, "tracestate": "a=1"}
    assert render_headers(Trace(PARENT)) == {"traceparent": PARENT}


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (f"00-{ID}-{SPAN}-00", f"00-{ID}-{SPAN}-00"),
        (f"00-{ID}-{SPAN}-ff", f"00-{ID}-{SPAN}-01"),
        (f"cc-{ID}-{SPAN}-01-what-may-come", PARENT),
        (f"01-{ID}-{SPAN}-01", PARENT),
    ],
)
def test_what_is_passed_on_as_version_00(given: str, passed_on: str) -> None:
    trace = parse_trace(given)
    assert trace is not None
    assert trace.traceparent == passed_on


@pytest.mark.parametrize(
    "given",
    [
        "",
        None,
        7,
        [PARENT],
        PARENT.encode(),
        PARENT.upper(),
        PARENT + "-",
        PARENT + "\n",
        PARENT[:-1],
        " " + PARENT,
        f"ff-{ID}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{ID}-{'0' * 16}-01",
        f"00-{ID}-{SPAN}-0g",
        f"00-{ID[:-1]}\u0664-{SPAN}-01",
        f"01-{ID}-{SPAN}-01x",
        f"01-{ID}-{SPAN}-01-{'x' * 300}",
    ],
)
def test_what_is_no_traceparent(given: object) -> None:
    assert parse_trace(given, "a=1") is None


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        ("a=1 , b@c=x y!\t,,", "a=1,b@c=x y!"),
        ("a=" + "x" * 256, "a=" + "x" * 256),
        ("a=" + "x" * 257, ""),
        (",".join(f"k{number}=1" for number in range(32)), ",".join(f"k{number}=1" for number in range(32))),
        (",".join(f"k{number}=1" for number in range(33)), ""),
        (f"a={'x' * 254},b={'y' * 253}", f"a={'x' * 254},b={'y' * 253}"),
        (f"a={'x' * 254},b={'y' * 254},c=1", ""),
        ("a=1,a=2", ""),
        ("A=1", ""),
        ("a=1=2", ""),
        ("a=\x7f", ""),
        ("a=1,b", ""),
        ("a=1\r\nx-death: y", ""),
        ("a=é", ""),
        ("x" * 2000, ""),
        (b"a=1", ""),
        (None, ""),
    ],
)
def test_tracestate(given: object, passed_on: str) -> None:
    assert parse_trace(PARENT, given) == Trace(PARENT, passed_on)


def test_in_headers() -> None:
    assert read_trace({"traceparent": PARENT, "tracestate": "a=1", "x-death": []}) == Trace(PARENT, "a=1")
    assert read_trace({"tracestate": "a=1"}) is None
    parent, first, second = (b"traceparent", PARENT.encode()), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")
    assert read_http_trace([first, parent, second]) == Trace(PARENT, "a=1,b=2")
    assert read_http_trace([parent, parent]) is None
    assert read_http_trace([first]) is None


@given(st.text(), st.text())
def test_whatever_comes_what_is_passed_on_fits_a_header(traceparent: str, tracestate: str) -> None:
    for parent in (traceparent, PARENT, PARENT[:36] + traceparent):
        trace = parse_trace(parent, tracestate)
        if trace is not None:
            assert len(trace.traceparent) == 55
            assert len(trace.tracestate) <= 512
            assert (trace.traceparent + trace.tracestate).isprintable()
            assert parse_trace(trace.traceparent, trace.tracestate) == trace
