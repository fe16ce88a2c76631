"""The order of work that all senders share: strategy not ours? → made before? → expired? → suppressed? → due? → paused? → an attempt, or
a forced error → what becomes of the mail.

A sender is a function that makes one attempt and tells it; about retries it decides nothing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache, partial

from prometheus_client import Counter, Gauge, Histogram

from shared.amqp.frame import Frame
from shared.amqp.notifying import Notifying
from shared.amqp.once import Once
from shared.delivery.finished import Finished
from shared.delivery.journal import Done, Ended, Known
from shared.delivery.outcome import Keys, Outcome, check_queues, conclude, hand_over, refuse, render_acceptance
from shared.delivery.patterns import Patterns
from shared.delivery.schedule import decide_schedule
from shared.delivery.settings import RetrySettings
from shared.delivery.stops import NO_STOPS, Forced, Paused, Stop, Stops, Suppressed, find_stop, is_stop
from shared.delivery.verdict import Failed, Retry, Sent, Verdict
from shared.delivery.waiting import render_wait
from shared.log import get_logger
from shared.process import Runtime
from shared.tracing import Fact, Hop, current_hop
from shared.trouble import Unavailable
from shared.wire.instructions import Instructions, InvalidProperty, parse_instructions
from shared.wire.message import Message, parse_message
from shared.wire.publication import Step
from shared.wire.result import Attempt, Result, State

log = get_logger()

ATTEMPTS = Counter("delivery_attempts", "Delivery attempts by strategy, state and result", ["strategy", "state", "result"])
RETRIES = Counter("delivery_retries", "Attempts after which another one was scheduled", ["strategy"])
DELIVERED = Counter("delivered_messages", "Messages delivered", ["strategy"])
# A gauge only because the library would add _total to the name of a counter.
DELIVERED_BYTES = Gauge("delivered_messages_total_size_bytes", "Bytes of messages delivered", ["strategy"])
FAILED = Counter("failed_messages", "Messages failed for good")
REFUSALS = Counter(
    "delivery_refusals", "Attempts that did not deliver, by class (what was in the way) and by verdict", ["class", "verdict"]
)
VERDICT_SECONDS = Histogram(
    "message_verdict_seconds",
    "Time from acceptance to the final verdict",
    ["verdict"],
    buckets=(0.05, 0.25, 1, 5, 15, 60, 300, 900, 3600, 14400, 43200, 86400, 172800),
)
_DELIVERED_SECONDS, _FAILED_SECONDS = map(VERDICT_SECONDS.labels, ("delivered", "failed"))
SUPPRESSED = Counter("suppressed_messages", "Messages failed because their recipient is suppressed")
PAUSED = Counter("paused_messages", "Times that a message was put off by a pause")
FORCED = Counter("forced_errors", "Attempts that were replaced by a forced error")


# The library looks labels up under a lock, with every value made a text again.
_attempts = lru_cache(maxsize=256)(ATTEMPTS.labels)
_delivered = lru_cache(maxsize=16)(DELIVERED.labels)
_delivered_bytes = lru_cache(maxsize=16)(DELIVERED_BYTES.labels)


def _no_stops() -> Stops:
    return NO_STOPS


async def _as_it_is(message: Message) -> Message:
    return message


@dataclass(frozen=True, slots=True)
class Delivering:
    """The handler of a sender's queue."""

    strategy: str
    home: str
    """The routing key that leads to the sender's queue."""
    attempt: Callable[[Message, Instructions], Awaitable[Finished]]
    """Makes one attempt. Raises Unavailable when the trouble is ours."""
    once: Once
    settings: RetrySettings
    keys: Keys
    runtime: Runtime
    notifying: Notifying
    patterns: Patterns
    put_away: Callable[[Message], Awaitable[Message]] = _as_it_is
    """A mail that is about to wait, perhaps with its content in the store (``shared.storage.deposit``). Never raises."""
    stops: Callable[[], Stops] = _no_stops
    """Suppressions, pauses and forced errors in force. Raises Unavailable when they were never seen."""

    def __post_init__(self) -> None:
        """Show the counters from the start: a rate over one that appears with its first event misses that."""
        for counter in (DELIVERED, DELIVERED_BYTES, RETRIES):
            counter.labels(strategy=self.strategy)

    async def handle(self, frame: Frame) -> Step:
        """One message. Raises BadMessage or Unavailable."""
        now = datetime.now(UTC)
        message = parse_message(frame.body, encoding=frame.encoding, is_ours=frame.is_ours, now=now)
        try:
            instructions = parse_instructions(message)
            check_queues(instructions, self.keys)
        except InvalidProperty as reason:
            outcome = refuse(message, reason, keys=self.keys, now=now, strategy=self.strategy, patterns=self.patterns)
            self._tell(message, outcome)
            return await self.notifying.add(message, outcome)
        if instructions.strategy not in (None, self.strategy):
            return hand_over(message, instructions.strategy, self.keys)
        known = self.once.look(frame, message)
        if isinstance(known, Done):
            return Step()
        return await self._deliver(frame, message, instructions, known, now)

    async def _deliver(self, frame: Frame, message: Message, instructions: Instructions, known: Known, now: datetime) -> Step:
        schedule = decide_schedule(message, instructions, self.settings)
        if isinstance(known, Ended):
            # Under the id of its first life: what is told twice can be recognised.
            message, finished = message.with_properties({"id": known.ident}), known.finished
        elif schedule.is_over(message.attempt, now):
            finished = Finished(Attempt(State.PROCESS, Result.TIMEOUT, message.attempt, now, strategy=self.strategy))
        else:
            stop = find_stop(message, instructions, self.stops(), now)
            if (due := self._find_due(message, instructions, stop, schedule.deadline, now)) is not None:
                return await self._wait(message, due, now)
            if self.runtime.stopping.is_set():
                raise Unavailable("this process is being stopped")
            if isinstance(stop, Suppressed | Forced):
                (SUPPRESSED if isinstance(stop, Suppressed) else FORCED).inc()
            finished = await self.once.make(frame, message, known, partial(self._attempt, message, instructions, stop))
        if is_stop(finished.attempt):
            # No other strategy takes what somebody has stopped; nor when the journal tells it, after its process died.
            instructions = replace(instructions, outbound=())
        conclude_for = partial(
            conclude,
            attempt=finished.attempt,
            instructions=instructions,
            schedule=schedule,
            keys=self.keys,
            now=datetime.now(UTC),
            extracted=finished.extracted,
            with_smarthost=finished.with_smarthost,
            patterns=self.patterns,
            host=finished.host,
        )
        outcome = conclude_for(message)
        if isinstance(outcome.verdict, Retry) and (waiting := await self.put_away(message)) is not message:
            # The same verdict, told with the key of the content in its place.
            outcome = conclude_for(waiting)
        is_handed_on = isinstance(outcome.verdict, Failed) and outcome.verdict.is_refusal and bool(instructions.outbound)
        self._tell(message, outcome, size=finished.size, is_handed_on=is_handed_on)
        step = await self.notifying.add(
            message,
            outcome,
            extracted=finished.extracted,
            is_handed_on=is_handed_on,
            retry_until=schedule.deadline,
        )
        return Step(step.publications, partial(self.once.confirm, message.id, message.attempt))

    async def _wait(self, message: Message, due: datetime, now: datetime) -> Step:
        """The mail looks again at ``due`` or earlier; nothing was attempted."""
        waiting = await self.put_away(message)
        publications = [render_wait(waiting, home=self.home, due=due, now=now, encoding=self.keys.encoding)]
        if waiting is not message or ("key" in waiting.document and not waiting.results):
            # The sweep deletes what no mail in the records names. Of a new key nobody else knows. An inbox may have died between its
            # mail and the record of it; after an attempt that has told the key, before one this does. Repeated, it changes nothing.
            publications.append(render_acceptance(waiting, self.keys))
        return Step(tuple(publications))

    def _find_due(
        self, message: Message, instructions: Instructions, stop: Stop | None, deadline: datetime, now: datetime
    ) -> datetime | None:
        """When the mail is to look again; None: now is its time. A recipient that gets no mail is told at once."""
        if isinstance(stop, Suppressed):
            return None
        if instructions.not_before is not None and instructions.not_before > now:
            return instructions.not_before
        if not isinstance(stop, Paused):
            return None
        PAUSED.inc()
        due = stop.look_again(now, deadline)
        log.info("paused", id=message.id, recipient=message.recipient[:320], pause=stop.name, until=stop.until, looks_again=due)
        return due

    async def _attempt(self, message: Message, instructions: Instructions, stop: Stop | None) -> Finished:
        """An attempt, or what somebody has put in its place. Raises Unavailable when the trouble is ours."""
        if isinstance(stop, Suppressed | Forced):
            return Finished(stop.to_attempt(message.attempt, datetime.now(UTC), strategy=self.strategy))
        return await self.attempt(message, instructions)

    def _tell(self, message: Message, outcome: Outcome, *, size: int = 0, is_handed_on: bool = False) -> None:
        attempt, verdict = outcome.attempt, outcome.verdict
        _attempts(self.strategy, attempt.state, attempt.result).inc()
        match verdict:
            case Sent():
                _delivered(self.strategy).inc()
                _delivered_bytes(self.strategy).inc(size)
                _DELIVERED_SECONDS.observe(_age(message))
            case Retry():
                RETRIES.labels(strategy=self.strategy).inc()
                REFUSALS.labels(attempt.bounce_class or "none", "retry").inc()
            case Failed():
                REFUSALS.labels(attempt.bounce_class or "none", "next-strategy" if is_handed_on else "failed").inc()
                if not is_handed_on:
                    FAILED.inc()
                    _FAILED_SECONDS.observe(_age(message))
        if (hop := current_hop()) is not None:
            _trace(hop, message, attempt, verdict)
        log.info(
            "refused, and handed to the next strategy"
            if is_handed_on
            else {Sent: "delivered", Retry: "will be tried again", Failed: "failed"}[type(verdict)],
            id=message.id,
            recipient=message.recipient[:320],
            attempt=attempt.number,
            strategy=self.strategy,
            state=str(attempt.state),
            result=str(attempt.result),
            code=attempt.code,
            status=attempt.status,
            description=attempt.description,
            to=attempt.remote_ip,
        )


def _trace(hop: Hop, message: Message, attempt: Attempt, verdict: Verdict) -> None:
    """What the trace tells of an attempt: as the log, without address and without the peer's words."""
    told: dict[str, Fact | None] = {
        "mailwarren.id": message.id,
        "mailwarren.attempt": attempt.number,
        "mailwarren.strategy": attempt.strategy or "",
        "mailwarren.state": str(attempt.state),
        "mailwarren.result": str(attempt.result),
        "mailwarren.code": attempt.code,
        "mailwarren.status": attempt.status,
        "mailwarren.class": attempt.bounce_class,
        "mailwarren.mta": attempt.mta,
        "mailwarren.verdict": {Sent: "delivered", Retry: "retry", Failed: "failed"}[type(verdict)],
    }
    hop.tell({name: value for name, value in told.items() if value is not None})
    if not isinstance(verdict, Sent):
        hop.fail(f"{attempt.state}/{attempt.result}")


def _age(message: Message) -> float:
    """Seconds since the mail was accepted."""
    return max(0.0, (datetime.now(UTC) - message.seen).total_seconds())
