"""The order of work for one message. Decides nothing about retries: it asks ``shared.delivery``."""

from datetime import UTC, datetime

from prometheus_client import Counter

from services.smtp_sender.attempt import Courier
from services.smtp_sender.settings import ServiceSettings
from shared.amqp.consumer import Frame
from shared.delivery.outcome import Keys, Outcome, check_queues, conclude, hand_over, refuse
from shared.delivery.schedule import decide_schedule
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

STRATEGY = "smtp"
ATTEMPTS = Counter("delivery_attempts", "Delivery attempts by state and result", ["state", "result"])
RETRIES = Counter("delivery_retries", "Attempts after which another one was scheduled")


class Sender:
    """The handler of the queue ``outbox``."""

    def __init__(self, settings: ServiceSettings, runtime: Runtime, courier: Courier, keys: Keys) -> None:
        self._settings = settings
        self._runtime = runtime
        self._courier = courier
        self._keys = keys

    async def handle(self, frame: Frame) -> Step:
        """strategy not ours? → expired? → due? → attempt → verdict. Raises BadMessage or Unavailable."""
        now = datetime.now(UTC)
        message = parse_message(frame.body, encoding=frame.encoding, is_ours=frame.is_ours, now=now)
        try:
            instructions = parse_instructions(message)
            check_queues(instructions, self._keys)
        except InvalidProperty as reason:
            return self._tell(message, refuse(message, reason, keys=self._keys, now=now))
        if instructions.strategy not in (None, STRATEGY):
            return hand_over(message, instructions.strategy, self._keys)
        return await self._deliver(message, instructions, now)

    async def _deliver(self, message: Message, instructions: Instructions, now: datetime) -> Step:
        schedule = decide_schedule(message, instructions, self._settings)
        if schedule.is_over(message.attempt, now):
            late = Attempt(State.PROCESS, Result.TIMEOUT, message.attempt, now)
            outcome = conclude(message, late, instructions=instructions, schedule=schedule, keys=self._keys, now=now)
            return self._tell(message, outcome)
        if instructions.not_before is not None and instructions.not_before > now:
            home, encoding = self._settings.rabbitmq_outbox, self._settings.rabbitmq_encoding
            return Step((render_wait(message, home=home, due=instructions.not_before, now=now, encoding=encoding),))
        if self._runtime.stopping.is_set():
            raise Unavailable("this process is being stopped")
        finished = await self._courier.attempt(message, instructions)
        outcome = conclude(
            message,
            finished.attempt,
            instructions=instructions,
            schedule=schedule,
            keys=self._keys,
            now=datetime.now(UTC),
            extracted=finished.extracted,
            with_smarthost=finished.with_smarthost,
        )
        return self._tell(message, outcome)

    def _tell(self, message: Message, outcome: Outcome) -> Step:
        attempt = outcome.attempt
        ATTEMPTS.labels(state=str(attempt.state), result=str(attempt.result)).inc()
        verdict = outcome.verdict
        if isinstance(verdict, Retry):
            RETRIES.inc()
        log.info(
            {Sent: "delivered", Retry: "will be tried again", Failed: "failed"}[type(verdict)],
            id=message.id,
            recipient=message.recipient[:320],
            attempt=attempt.number,
            state=str(attempt.state),
            result=str(attempt.result),
            code=attempt.code,
            status=attempt.status,
            description=attempt.description,
            to=attempt.remote_ip,
        )
        return outcome.step
