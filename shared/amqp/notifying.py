"""Adds to what follows from an attempt the notification that its sender is due (``shared.delivery.notify`` decides)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from prometheus_client import Counter

from shared.delivery.notify import decide_notice, derive_ident, render_notice
from shared.delivery.outcome import Keys, Outcome
from shared.delivery.settings import RetrySettings
from shared.log import get_logger
from shared.mail.dsn_report import Action
from shared.trouble import Unavailable
from shared.wire.message import Message
from shared.wire.publication import Step

log = get_logger()

BOUNCES = Counter("bounce_replies", "Notifications of failure made for senders")


@dataclass(frozen=True, slots=True)
class Notifying:
    """Makes notifications."""

    fetch: Callable[[Message], Awaitable[object]]
    """The content of a mail as bytes; anything else: it is gone. Raises Unavailable."""
    hostname: str
    """The name we are known by: Reporting-MTA, and the domain of MAILER-DAEMON."""
    settings: RetrySettings
    keys: Keys

    async def add(
        self,
        message: Message,
        outcome: Outcome,
        *,
        extracted: Mapping[str, Any] | None = None,
        is_handed_on: bool = False,
        retry_until: datetime | None = None,
    ) -> Step:
        """The step of ``outcome``, with the notification when one is due. Never raises: the attempt has been made.

        ``message``: as it was before the attempt; ``extracted``, ``is_handed_on``: as for ``decide_notice``; ``retry_until``: its
        deadline.
        """
        notice = decide_notice(
            message, outcome, settings=self.settings, keys=self.keys, extracted=extracted, is_handed_on=is_handed_on
        )
        if notice is None:
            return outcome.step
        content = await self._fetch(message)
        publications = render_notice(
            message, outcome.attempt, notice, content, hostname=self.hostname, keys=self.keys, retry_until=retry_until
        )
        if notice.action is Action.FAILED:
            BOUNCES.inc()
        log.info("its sender is told", id=message.id, action=str(notice.action), told_as=derive_ident(message.id, notice.action))
        return replace(outcome.step, publications=(*outcome.step.publications, *publications))

    async def _fetch(self, message: Message) -> bytes | None:
        try:
            found = await self.fetch(message)
        except Unavailable as error:
            log.warning("the notification goes without the mail that it is about", id=message.id, reason=str(error))
            return None
        return found if isinstance(found, bytes) else None
