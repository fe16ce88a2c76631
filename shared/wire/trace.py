"""Where a message stands in a distributed trace: W3C Trace Context, in AMQP headers and in HTTP.

What others send is read strictly, and only this much of their headers is ever published again. A ``tracestate`` that breaks a rule is
dropped; the trace goes on without it, as the standard has it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
SIZE = 55
"""Characters of a ``traceparent``."""
MAX_TRACESTATE = 512
"""Characters of a ``tracestate`` that are passed on (W3C Trace Context 3.3.1.5)."""
MAX_MEMBERS = 32
_LATER = 256
"""Characters that a later version of ``traceparent`` may have; what stands behind the first 55 is not passed on."""

_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_MEMBER = re.compile(
    r"([a-z0-9][a-z0-9_*/@-]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Trace:
    """A place in a trace, checked."""

    traceparent: str
    """Version 00: ``00-``, trace, span, flags."""
    tracestate: str = ""
    """What the tracing systems before us have noted for themselves; "" = nothing."""

    @property
    def trace_id(self) -> int:
        """Of the whole trace."""
        return int(self.traceparent[3:35], 16)

    @property
    def span_id(self) -> int:
        """Of the work that caused this message."""
        return int(self.traceparent[36:52], 16)

    @property
    def is_sampled(self) -> bool:
        """Whoever began the trace wants it recorded."""
        return bool(int(self.traceparent[53:], 16) & 1)


def render_trace(trace_id: int, span_id: int, *, is_sampled: bool, tracestate: str = "") -> Trace:
    """The place of a span."""
    return Trace(f"00-{trace_id:032x}-{span_id:016x}-{int(is_sampled):02x}", tracestate)


def parse_trace(traceparent: object, tracestate: object = None) -> Trace | None:
    """What the two headers say; None when there is no valid ``traceparent``."""
    if not isinstance(traceparent, str) or len(traceparent) > _LATER:
        return None
    found = _PARENT.fullmatch(traceparent)
    if found is None or (found[1] == "00" and found[5] is not None):
        return None
    # Of the flags version 00 knows one; others are not ours to pass on.
    flags = int(found[4], 16) & 1
    return Trace(f"00-{found[2]}-{found[3]}-{flags:02x}", _check_tracestate(tracestate))


def read_trace(headers: Mapping[str, Any]) -> Trace | None:
    """The trace in AMQP headers."""
    traceparent = headers.get(TRACEPARENT)
    return None if traceparent is None else parse_trace(traceparent, headers.get(TRACESTATE))


def read_http_trace(headers: Iterable[tuple[bytes, bytes]]) -> Trace | None:
    """The trace in the headers of a request, their names in small letters. More than one ``traceparent`` is none."""
    parents, states = [], []
    for name, value in headers:
        if name == b"traceparent":
            parents.append(value.decode("latin-1"))
        elif name == b"tracestate":
            states.append(value.decode("latin-1"))
    return parse_trace(parents[0], ",".join(states)) if len(parents) == 1 else None


def render_headers(trace: Trace) -> dict[str, str]:
    """As AMQP or HTTP headers."""
    return {TRACEPARENT: trace.traceparent} | ({TRACESTATE: trace.tracestate} if trace.tracestate else {})


def _check_tracestate(tracestate: object) -> str:
    """The members that it lists, without the white space around them; "" when it is not valid as a whole."""
    if not isinstance(tracestate, str) or len(tracestate) > 2 * MAX_TRACESTATE:
        return ""
    members = [member for part in tracestate.split(",") if (member := part.strip(" \t"))]
    found = [_MEMBER.fullmatch(member) for member in members]
    names = {one[1] for one in found if one is not None}
    # A name that comes twice is a mistake, too.
    text = ",".join(members)
    return text if len(names) == len(members) <= MAX_MEMBERS and len(text) <= MAX_TRACESTATE else ""
