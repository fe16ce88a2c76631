"""The order of work for one message. Decides nothing about retries: it asks ``shared.delivery``."""

from datetime import UTC, datetime

from prometheus_client import Counter, Gauge

from services.seal_sender.client import Ending, Misconfigured, SealClient
from services.seal_sender.content import NoContent, load_content
from services.seal_sender.settings import ServiceSettings
from shared.amqp.consumer import Frame
from shared.delivery.outcome import Keys, Outcome, check_queues, conclude, hand_over, refuse
from shared.delivery.schedule import decide_schedule
from shared.delivery.verdict import Failed, Retry, Sent
from shared.delivery.waiting import render_wait
from shared.log import get_logger
from shared.process import Runtime
from shared.storage.payloads import Store
from shared.trouble import Unavailable
from shared.wire.instructions import Instructions, InvalidProperty, parse_instructions
from shared.wire.message import Message, parse_message
from shared.wire.publication import Step
from shared.wire.result import Attempt, Result, State

log = get_logger()

STRATEGY = "seal"
ATTEMPTS = Counter("seal_attempts", "Attempts to seal, by state and result", ["state", "result"])
RETRIES = Counter("seal_retries", "Attempts after which another one was scheduled")
MISCONFIGURED = Gauge("seal_misconfigured", "1 while the seal service refuses us (401, 403, 404, 405, 407): mail is held")


class Sealer:
    """The handler of the queue ``seal``."""

    def __init__(self, settings: ServiceSettings, runtime: Runtime, client: SealClient, store: Store, keys: Keys) -> None:
        self._settings = settings
        self._runtime = runtime
        self._client = client
        self._store = store
        self._keys = keys

    async def handle(self, frame: Frame) -> Step:
        """strategy not ours? → expired? → due? → attempt → verdict. Raises BadMessage or Unavailable."""
        now = datetime.now(UTC)
        message = parse_message(frame.body, encoding=frame.encoding, is_ours=frame.is_ours, now=now)
        try:
            instructions = parse_instructions(message)
            check_queues(instructions, self._keys)
        except InvalidProperty as reason:
            return self._tell(message, refuse(message, reason, keys=self._keys, now=now, strategy=STRATEGY))
        if instructions.strategy not in (None, STRATEGY):
            return hand_over(message, instructions.strategy, self._keys)
        schedule = decide_schedule(message, instructions, self._settings)
        if schedule.is_over(message.attempt, now):
            late = Attempt(State.PROCESS, Result.TIMEOUT, message.attempt, now, strategy=STRATEGY)
            return self._tell(
                message, conclude(message, late, instructions=instructions, schedule=schedule, keys=self._keys, now=now)
            )
        if instructions.not_before is not None and instructions.not_before > now:
            home, encoding = self._settings.rabbitmq_seal, self._settings.rabbitmq_encoding
            return Step((render_wait(message, home=home, due=instructions.not_before, now=now, encoding=encoding),))
        if self._runtime.stopping.is_set():
            raise Unavailable("this process is being stopped")
        content = await load_content(message, self._store, client_key_prefix=self._settings.client_key_prefix)
        if isinstance(content, NoContent):
            ending, extracted = Ending(content.state, content.result, description=content.description), None
        else:
            ending, extracted = await self._send(message, instructions, content.mime), content.extracted
        moment = datetime.now(UTC)
        attempt = tell_attempt(ending, message.attempt, moment)
        return self._tell(
            message,
            conclude(
                message, attempt, instructions=instructions, schedule=schedule, keys=self._keys, now=moment, extracted=extracted
            ),
        )

    async def _send(self, message: Message, instructions: Instructions, mime: bytes) -> Ending:
        envelope = instructions.reverse_path.address if instructions.reverse_path else ""
        try:
            ending = await self._client.send(mime, envelope=envelope, recipient=instructions.recipient.address, ident=message.id)
        except Misconfigured as error:
            MISCONFIGURED.set(1)
            log.error("the seal service refuses us, mail is held", id=message.id, reason=str(error))
            raise
        if ending.state is State.MESSAGE:
            MISCONFIGURED.set(0)
        return ending

    def _tell(self, message: Message, outcome: Outcome) -> Step:
        attempt = outcome.attempt
        ATTEMPTS.labels(state=str(attempt.state), result=str(attempt.result)).inc()
        if isinstance(outcome.verdict, Retry):
            RETRIES.inc()
        log.info(
            {Sent: "delivered", Retry: "will be tried again", Failed: "failed"}[type(outcome.verdict)],
            id=message.id,
            recipient=message.recipient[:320],
            attempt=attempt.number,
            strategy=STRATEGY,
            state=str(attempt.state),
            result=str(attempt.result),
            code=attempt.code,
            status=attempt.status,
            description=attempt.description,
        )
        return outcome.step


def tell_attempt(ending: Ending, number: int, moment: datetime) -> Attempt:
    """The attempt as it stands in results. Where the service gave no code, ``shared.delivery.texts`` makes one."""
    return Attempt(
        ending.state,
        ending.result,
        number,
        moment,
        ending.code,
        ending.status,
        ending.description,
        local_ip=ending.local_ip,
        remote_ip=ending.remote_ip,
        cipher=ending.cipher,
        strategy=STRATEGY,
    )
