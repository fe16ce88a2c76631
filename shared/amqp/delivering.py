"""The order of work that all senders share: strategy not ours? → made before? → expired? → suppressed? → due? → paused? → an attempt, or
a forced error → what becomes of the mail.

A sender is a function that makes one attempt and tells it; about retries it decides nothing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from prometheus_client import Counter, Gauge

from shared.amqp.consumer import Frame
from shared.amqp.notifying import Notifying
from shared.amqp.once import Once
from shared.delivery.finished import Finished
from shared.delivery.journal import Done, Ended, Known
from shared.delivery.outcome import Keys, Outcome, check_queues, conclude, hand_over, refuse
from shared.delivery.patterns import Patterns
from shared.delivery.schedule import decide_schedule
from shared.delivery.settings import RetrySettings
from shared.delivery.stops import NO_STOPS, Forced, Paused, Stop, Stops, Suppressed, find_stop, is_stop
from shared.delivery.verdict import Failed, Retry, Sent
from shared.delivery.waiting import render_wait
from shared.log import get_logger
from shared.process import Runtime
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
SUPPRESSED = Counter("suppressed_messages", "Messages failed because their recipient is suppressed")
PAUSED = Counter("paused_messages", "Times that a message was put off by a pause")
FORCED = Counter("forced_errors", "Attempts that were replaced by a forced error")


def _no_stops() -> Stops:
    return NO_STOPS


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
                return Step((render_wait(message, home=self.home, due=due, now=now, encoding=self.keys.encoding),))
            if self.runtime.stopping.is_set():
                raise Unavailable("this process is being stopped")
            if isinstance(stop, Suppressed | Forced):
                (SUPPRESSED if isinstance(stop, Suppressed) else FORCED).inc()
            finished = await self.once.make(frame, message, known, partial(self._attempt, message, instructions, stop))
        if is_stop(finished.attempt):
            # No other strategy takes what somebody has stopped; nor when the journal tells it, after its process died.
            instructions = replace(instructions, outbound=())
        outcome = conclude(
            message,
            finished.attempt,
            instructions=instructions,
            schedule=schedule,
            keys=self.keys,
            now=datetime.now(UTC),
            extracted=finished.extracted,
            with_smarthost=finished.with_smarthost,
            patterns=self.patterns,
            host=finished.host,
        )
        self._tell(message, outcome, size=finished.size)
        step = await self.notifying.add(
            message,
            outcome,
            extracted=finished.extracted,
            is_handed_on=isinstance(outcome.verdict, Failed) and outcome.verdict.is_refusal and bool(instructions.outbound),
            retry_until=schedule.deadline,
        )
        return replace(step, confirmed=partial(self.once.confirm, message.id, message.attempt))

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

    def _tell(self, message: Message, outcome: Outcome, *, size: int = 0) -> None:
        attempt, verdict = outcome.attempt, outcome.verdict
        ATTEMPTS.labels(strategy=self.strategy, state=str(attempt.state), result=str(attempt.result)).inc()
        match verdict:
            case Sent():
                DELIVERED.labels(strategy=self.strategy).inc()
                DELIVERED_BYTES.labels(strategy=self.strategy).inc(size)
            case Retry():
                RETRIES.labels(strategy=self.strategy).inc()
            case Failed():
                FAILED.inc()
        log.info(
            {Sent: "delivered", Retry: "will be tried again", Failed: "failed"}[type(verdict)],
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
