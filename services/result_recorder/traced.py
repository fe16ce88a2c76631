"""Batches in traces (``shared.tracing``): a span for each, linked to the mails that it records."""

from collections.abc import Mapping, Sequence

from shared.amqp.batches import HandleBatch
from shared.amqp.frame import Frame
from shared.tracing import enter, open_batch


def trace_batches(handle: HandleBatch, queue: str) -> HandleBatch:
    """The same as ``handle``, with a span for every batch from ``queue`` that has traced mail in it."""

    async def handle_traced(frames: Sequence[Frame]) -> Mapping[int, str]:
        with enter(open_batch("record", queue, [frame.trace for frame in frames])) as hop:
            reasons = await handle(frames)
            if hop is not None and reasons:
                hop.tell({"mailwarren.parked": len(reasons)})
            return reasons

    return handle_traced
