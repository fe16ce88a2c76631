"""Is this mail to be sent at all, and now? Suppressions, pauses and forced errors: one pure function, ``find_stop``.

A suppression comes first: it ends the mail. A pause comes before a forced error: while it lasts nothing happens to the mail and nothing
is counted. ``force`` of a message overrules none of them: it is about content that cannot be made (``personalize``, ``responsive``).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.delivery.conditions import FIELDS as CONDITIONS
from shared.delivery.conditions import Conditions, Index, describe, parse_conditions
from shared.delivery.suppressions import Held, check_text, find_suppression, parse_expires
from shared.delivery.texts import TEXTS
from shared.wire.instructions import Instructions
from shared.wire.message import Message
from shared.wire.result import Attempt, Result, State
from shared.wire.times import render_time

PAUSE_FIELDS = ("name", *CONDITIONS, "reason", "expires")
ERROR_FIELDS = ("name", *CONDITIONS, "code", "status", "description", "expires")
SOONEST, LATEST = timedelta(seconds=5), timedelta(minutes=10)
"""After how long a paused mail looks again: half of the time that the pause has lasted, within these. A backlog that waits for hours
then costs little, and a pause that was a mistake costs seconds."""

_STATUS = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class Pause:
    """Mail that waits."""

    name: str
    conditions: Conditions
    reason: str | None = None
    expires: datetime | None = None
    since: datetime | None = None
    """When it was added or last replaced."""

    @property
    def document(self) -> dict[str, Any]:
        """As it lies in the table, without the name."""
        return _without_none({**self.conditions.document, "reason": self.reason, "expires": _shown(self.expires)})


@dataclass(frozen=True, slots=True)
class ForcedError:
    """Mail that gets this reply instead of an attempt."""

    name: str
    conditions: Conditions
    code: int
    """4xx: tried again by the usual schedule. 5xx: failed."""
    status: str
    """Enhanced status code (RFC 3463) of the class of ``code``."""
    description: str
    expires: datetime | None = None
    document: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """As it lies in the table, without the name."""


@dataclass(frozen=True, slots=True)
class Stops:
    """All that is in force."""

    suppressions: Mapping[str, Held] = field(default_factory=dict)
    """By folded name."""
    pauses: Index[Pause] = field(default_factory=Index)
    errors: Index[ForcedError] = field(default_factory=Index)


NO_STOPS = Stops()


@dataclass(frozen=True, slots=True)
class Suppressed:
    """The mail fails: its recipient gets none."""

    name: str
    reason: str | None = None

    def to_attempt(self, number: int, now: datetime, *, strategy: str = "smtp") -> Attempt:
        """What is told of it."""
        text = TEXTS[State.SUPPRESSION, Result.ERROR][2]
        description = text if self.reason is None else f"{text}: {self.reason}"
        return Attempt(State.SUPPRESSION, Result.ERROR, number, now, description=description, strategy=strategy)


@dataclass(frozen=True, slots=True)
class Paused:
    """The mail waits. Of several pauses, the one that ends last."""

    name: str
    until: datetime | None = None
    """None: until somebody removes it."""
    since: datetime | None = None

    def look_again(self, now: datetime, deadline: datetime) -> datetime:
        """When the mail is to look again, not later than the end of the pause and its own ``deadline``."""
        lasted = 2 * LATEST if self.since is None else now - self.since
        look = now + max(SOONEST, min(LATEST, lasted / 2))
        return min(look, deadline) if self.until is None else min(look, deadline, self.until)


@dataclass(frozen=True, slots=True)
class Forced:
    """The mail gets a reply that somebody made up. It counts as an attempt."""

    name: str
    code: int
    status: str
    description: str

    def to_attempt(self, number: int, now: datetime, *, strategy: str = "smtp") -> Attempt:
        """What is told of it."""
        return Attempt(State.PROCESS, Result.ERROR, number, now, self.code, self.status, self.description, strategy=strategy)


Stop = Suppressed | Paused | Forced


def find_stop(message: Message, instructions: Instructions, stops: Stops, now: datetime) -> Stop | None:
    """What keeps ``message`` from being sent now."""
    suppression = find_suppression(instructions.recipient, stops.suppressions, now)
    if suppression is not None:
        name, held = suppression
        return Suppressed(name, held.reason)
    if not stops.pauses.entries and not stops.errors.entries:
        return None
    subject = describe(message, instructions)
    if pauses := stops.pauses.find(subject, now):
        longest = max(pauses, key=lambda pause: (pause.expires is None, pause.expires or now))
        return Paused(longest.name, longest.expires, longest.since)
    for error in stops.errors.find(subject, now):
        return Forced(error.name, error.code, error.status, error.description)
    return None


def is_stop(attempt: Attempt) -> bool:
    """Is this what is told of a suppression or a forced error? An attempt that we end ourselves with PROCESS/ERROR has no code."""
    if attempt.state is State.SUPPRESSION:
        return True
    return attempt.state is State.PROCESS and attempt.result is Result.ERROR and attempt.code is not None


def parse_pause(document: Mapping[str, Any]) -> Pause:
    """A pause from ``{"name", "destination", "tag", "pool", "reason", "expires"}``.

    Raises ValueError that names the field, its value and what was expected.
    """
    name, conditions = parse_conditions(document)
    since = document.get("updated_at")
    return Pause(
        name,
        conditions,
        check_text("reason", document.get("reason")),
        parse_expires(document.get("expires")),
        datetime.fromtimestamp(since, UTC) if isinstance(since, int) and 0 <= since < 2**36 else None,
    )


def parse_error(document: Mapping[str, Any]) -> ForcedError:
    """A forced error from ``{"name", "destination", "tag", "pool", "code", "status", "description", "expires"}``.

    Raises ValueError that names the field, its value and what was expected.
    """
    name, conditions = parse_conditions(document)
    code, status = document.get("code"), document.get("status")
    if not isinstance(code, int) or isinstance(code, bool) or not 400 <= code <= 599:
        shown = "missing" if code is None else f"{code!r:.80}"
        raise ValueError(f"code: {shown}: expected a number from 400 (tried again) to 599 (failed)")
    if status is not None and (not isinstance(status, str) or not _STATUS.fullmatch(status) or status[0] != str(code)[0]):
        raise ValueError(
            f"status: {status!r:.80}: expected an enhanced status code that begins with {code // 100}, as {code // 100}.7.1"
        )
    description = check_text("description", document.get("description"))
    expires = parse_expires(document.get("expires"))
    kept = {**conditions.document, "code": code, "status": status, "description": description, "expires": _shown(expires)}
    return ForcedError(
        name,
        conditions,
        code,
        status or f"{code // 100}.7.1",
        description or "Stopped by a forced error",
        expires,
        _without_none(kept),
    )


def _shown(expires: datetime | None) -> str | None:
    return None if expires is None else render_time(expires)


def _without_none(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}
