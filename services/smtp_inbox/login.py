"""Who a client is: a back-end says yes or no, guessing is slowed down and limited, and no answer tells what was wrong."""

import asyncio
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from prometheus_client import Counter

from services.smtp_inbox.asking import AskingService
from services.smtp_inbox.guessing import Guesses, Limit
from services.smtp_inbox.settings import ServiceSettings
from services.smtp_inbox.users import UsersFile
from shared.log import get_logger
from shared.trouble import Unavailable

log = get_logger()

LOGINS = Counter("smtp_inbox_logins", "Answers to AUTH: yes, no, unavailable, too-many-address, too-many-user", ["answer"])
for _answer in ("yes", "no", "unavailable", "too-many-address", "too-many-user"):
    LOGINS.labels(_answer)  # Shown from the start: a rate over one that appears with its first event misses that.
MOST_WAITING = 200
"""Clients that wait for the back-end at once."""
LONGEST_DELAY = 8
"""The delay is doubled with each failure, up to this many times the first."""


class Answer(StrEnum):
    """What becomes of an attempt."""

    YES = "yes"
    NO = "no"
    UNAVAILABLE = "unavailable"
    TOO_MANY_ADDRESS = "too-many-address"
    TOO_MANY_USER = "too-many-user"


class Backend(Protocol):
    """Knows the passwords."""

    @property
    def slots(self) -> int:
        """How many questions it takes at once."""

    def knows(self, name: str) -> bool:
        """The name is a user's: it may be logged (what is none may be a password typed into the wrong field)."""

    async def verify(self, name: str, password: str) -> bool:
        """Yes or no. Raises Unavailable."""

    def reload(self) -> None:
        """Read again what can be read again. Never raises."""

    async def close(self) -> None:
        """Give everything up."""


@dataclass(slots=True)
class Authenticator:
    """One per process."""

    backend: Backend
    guesses: Guesses
    delay: float
    """Seconds, counted from the question, before the first no; doubled with each failure of the client's address."""
    _slots: asyncio.Semaphore = field(init=False)
    _waiting: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.backend.slots)

    async def decide(self, name: str, password: str, client: str) -> Answer:
        """The answer to a client (its IP address). Never raises."""
        began = time.monotonic()
        if self._waiting >= MOST_WAITING:
            answer = Answer.UNAVAILABLE
        else:
            self._waiting += 1
            try:
                async with self._slots:
                    answer = await self._ask(name, password, client)
            finally:
                self._waiting -= 1
        LOGINS.labels(answer=answer).inc()
        known = name if self.backend.knows(name) or answer is Answer.YES else ""
        if answer is Answer.YES:
            log.info("logged in", client=client, user=known)
            return answer
        log.warning("not logged in", client=client, user=known, answer=answer)
        if answer is Answer.NO:
            failures = self.guesses.add_failure(client, name, time.monotonic())
            await asyncio.sleep(began + self.delay * min(2 ** (failures - 1), LONGEST_DELAY) - time.monotonic())
        return answer

    async def _ask(self, name: str, password: str, client: str) -> Answer:
        # Looked up when it is the client's turn: many questions at once do not get past the limits.
        match self.guesses.find_limit(client, name, time.monotonic()):
            case Limit.ADDRESS:
                return Answer.TOO_MANY_ADDRESS
            case Limit.USER:
                return Answer.TOO_MANY_USER
        try:
            # Empty: what the client sent can be nobody's name or password.
            is_right = bool(name and password) and await self.backend.verify(name, password)
        except Unavailable as error:
            log.error("cannot find out who a client is", reason=str(error))
            return Answer.UNAVAILABLE
        except Exception:
            log.exception("cannot find out who a client is")
            return Answer.UNAVAILABLE
        if is_right:
            self.guesses.add_success(client, name)
        return Answer.YES if is_right else Answer.NO


def open_authenticator(settings: ServiceSettings) -> Authenticator | None:
    """The one that the settings ask for; None: there is no AUTH. Raises BadSetting."""
    value = settings.inbound_smtp_auth
    if not value:
        return None
    backend: Backend
    if value.startswith(("http://", "https://")):
        backend = AskingService(value, settings.inbound_smtp_auth_timeout)
    else:
        backend = UsersFile(Path(value.removeprefix("file://")))
    guesses = Guesses(
        settings.inbound_smtp_auth_window,
        settings.inbound_smtp_auth_max_failures,
        settings.inbound_smtp_auth_max_failures_per_user,
    )
    return Authenticator(backend, guesses, settings.inbound_smtp_auth_delay.total_seconds())
