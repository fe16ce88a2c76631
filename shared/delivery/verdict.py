"""What becomes of a message after an attempt: one pure function.

A response pattern may overrule what the code says (``fatal``) and when the next attempt is (``interval``). It overrules neither
an acceptance, nor our own final verdicts about the mail, nor the deadline and the number of attempts.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.delivery.patterns import Match
from shared.delivery.schedule import Schedule
from shared.wire.result import Attempt, Result, State

OF_THE_MESSAGE = frozenset({State.MAILFROM, State.RCPTTO, State.DATA, State.MESSAGE})
"""A 5xx at these states is about this mail."""
OURS_FINAL = frozenset({State.PROCESS, State.SUPPRESSION, State.RESPONSIVE, State.PERSONALIZE, State.STORAGE})
"""An error at these states is our own verdict, and trying again would not change it; no response pattern overrules it."""
OUR_CREDENTIALS = frozenset({530, 535, 538})
"""Replies that concern our credentials at a smarthost, not the mail (RFC 4954 6)."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The peer has taken responsibility."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again."""

    after: timedelta
    due: datetime


@dataclass(frozen=True, slots=True)
class Failed:
    """Given up."""

    is_refusal: bool
    """Refused for good; False when time or attempts ran out."""


Verdict = Sent | Retry | Failed


def decide(
    attempt: Attempt,
    *,
    ident: str,
    schedule: Schedule,
    now: datetime,
    with_smarthost: bool = False,
    match: Match | None = None,
) -> Verdict:
    """The verdict on the message ``ident`` after ``attempt``. No reply at all counts as temporary.

    ``match``: what the response patterns say about it.
    """
    if attempt.state is State.MESSAGE and attempt.result is Result.ACCEPTED:
        return Sent()
    if attempt.state is State.PROCESS and attempt.result is Result.TIMEOUT:
        return Failed(is_refusal=False)
    if is_final(attempt, with_smarthost=with_smarthost, match=match):
        return Failed(is_refusal=True)
    after = schedule.wait_after(attempt.number, ident)
    if match is not None and match.interval is not None:
        after = match.interval
    due = now + after
    if schedule.is_over(attempt.number + 1, due):
        return Failed(is_refusal=False)
    return Retry(after, due)


def is_final(attempt: Attempt, *, with_smarthost: bool = False, match: Match | None = None) -> bool:
    """Would trying again change nothing?"""
    if attempt.state in OURS_FINAL:
        # A 4xx there is a forced error (shared.delivery.stops) whose author wants the mail tried again.
        return attempt.result not in (Result.LOST, Result.TIMEOUT) and not 400 <= (attempt.code or 554) < 500
    if match is not None and match.fatal is not None and attempt.result is not Result.ACCEPTED:
        return match.fatal
    if attempt.result is not Result.ERROR:
        return False
    if attempt.state is State.DNS:
        return not (attempt.status or str(attempt.code or 5)).startswith("4")
    if with_smarthost and attempt.code in OUR_CREDENTIALS:
        return False
    if attempt.state is State.BIND:
        return attempt.status is not None and attempt.status.startswith("5")
    return attempt.state in OF_THE_MESSAGE and attempt.code is not None and 500 <= attempt.code < 600
