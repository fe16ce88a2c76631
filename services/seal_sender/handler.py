"""One attempt to seal: content → POST to the seal service → what it answered, as an attempt."""

from datetime import UTC, datetime

from prometheus_client import Gauge

from services.seal_sender.client import Ending, Misconfigured, SealClient
from shared.delivery.finished import Finished
from shared.log import get_logger
from shared.mail.edits import apply_edits
from shared.mail.headers import parse_extract
from shared.storage.contents import Contents, NoContent
from shared.wire.instructions import Instructions
from shared.wire.message import Message
from shared.wire.result import Attempt, State

log = get_logger()

STRATEGY = "seal"
MISCONFIGURED = Gauge("seal_misconfigured", "1 while the seal service refuses us (401, 403, 404, 405, 407): mail is held")


class Sealer:
    """Makes attempts."""

    def __init__(self, client: SealClient, contents: Contents) -> None:
        self._client = client
        self._contents = contents

    async def attempt(self, message: Message, instructions: Instructions) -> Finished:
        """Make one attempt. Raises Unavailable when the trouble is ours, a misconfiguration among them."""
        content = await self._contents.fetch(message)
        if isinstance(content, NoContent):
            ending = Ending(content.state, content.result, description=content.text)
            return Finished(tell_attempt(ending, message.attempt, datetime.now(UTC)))
        if instructions.edits is not None:
            content = apply_edits(content, instructions.edits)
        ending = await self._send(message, instructions, content)
        attempt = tell_attempt(ending, message.attempt, datetime.now(UTC))
        return Finished(attempt, parse_extract(content), size=len(content))

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
