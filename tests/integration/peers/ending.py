"""What an attempt came to, and a courier with the patience that servers of others need."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from services.smtp_sender.session import Timeouts
from shared.delivery.finished import Finished
from shared.delivery.schedule import Schedule
from shared.delivery.verdict import Failed, Sent, decide
from tests.integration.smtp_sender.sending import LOOPBACK, Desk, desk
from tests.support.peers.process import PeerProcess

PATIENT = Timeouts(greeting=10, ehlo=10, mail=10, rcpt=10, data=10, block=10, dot=10, quit=2)


@asynccontextmanager
async def desk_towards(peer: PeerProcess, **more: Any) -> AsyncIterator[Desk]:
    """A desk for which mx.x.example, the MX of x.example, is this peer."""
    zone = {"x.example": {"MX": "10 mx.x.example"}, "mx.x.example": {"A": peer.host}}
    given: dict[str, Any] = {"timeouts": PATIENT, "smtp_port": peer.port, "smtp_allow_private": LOOPBACK} | more
    async with desk(zone, **given) as one:
        yield one


def ended(finished: Finished) -> tuple[str, str, str]:
    """State, result, and what becomes of the mail: ``sent``, ``retry`` or ``failed``."""
    now = datetime.now(UTC)
    schedule = Schedule(now + timedelta(days=1), 0, [timedelta(minutes=10)], 0.1)
    verdict = decide(finished.attempt, ident="id-1", schedule=schedule, now=now, with_smarthost=finished.with_smarthost)
    word = "sent" if isinstance(verdict, Sent) else "failed" if isinstance(verdict, Failed) else "retry"
    return finished.attempt.state.value, finished.attempt.result.value, word


def told(finished: Finished) -> dict[str, Any]:
    """The attempt as results tell it."""
    return finished.attempt.to_document()
