"""``mailwarren explain``: what a reply of a peer means for a mail."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from services.cli.given import Config, load_given
from shared.delivery.schedule import JITTER, Schedule
from shared.delivery.settings import RetrySettings
from shared.delivery.texts import fill_in
from shared.delivery.verdict import Retry, Sent, decide
from shared.mail.reply import InvalidReply, Reply, parse_reply
from shared.trouble import BadSetting
from shared.wire.result import Attempt, Result, State
from shared.wire.times import parse_time, render_time

_NO_REPLY = {"timeout": Result.TIMEOUT, "lost": Result.LOST, "invalid": Result.INVALID, "error": Result.ERROR}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(explain)


def explain(
    reply: Annotated[
        str, typer.Argument(metavar="REPLY", help='The peer\'s words ("451 4.7.1 try later"), or timeout, lost, invalid, error.')
    ],
    attempt: Annotated[int, typer.Option("--attempt", min=1, help="Which attempt it was.")] = 1,
    state: Annotated[str, typer.Option("--state", help="Where: connect, ehlo, mailfrom, rcptto, data, message …")] = "rcptto",
    seen: Annotated[
        str | None,
        typer.Option(
            "--seen",
            metavar="TIME",
            help="When we first saw the mail, YYYY-MM-DD HH:MM:SS UTC; default: as the attempts suggest.",
        ),
    ] = None,
    smarthost: Annotated[bool, typer.Option("--smarthost", help="The reply is a smarthost's.")] = False,
    intervals: Annotated[str | None, typer.Option("--retry-interval", help="Seconds, with commas; else RETRY_INTERVAL.")] = None,
    most: Annotated[int | None, typer.Option("--max-attempts", help="Else MAX_ATTEMPTS.")] = None,
    lifetime: Annotated[str | None, typer.Option("--max-delivertime", help="Else MAX_DELIVERTIME.")] = None,
    config: Config = None,
) -> int:
    """What a peer's reply means for a mail.

    \b
    Delivered, failed, or tried again and when.
      mailwarren explain "451 4.7.1 try later" --attempt 3
      mailwarren explain "550 5.1.1 no such user"
      mailwarren explain timeout --state message
    """
    settings = load_given(RetrySettings, config, retry_interval=intervals, max_attempts=most, max_delivertime=lifetime)
    now = datetime.now(UTC)
    took = parse_attempt(reply, state, attempt, now)
    started = _parse_seen(seen, settings, attempt, now)
    schedule = Schedule(started + settings.max_delivertime, settings.max_attempts, settings.retry_interval, 0.0)
    verdict = decide(took, ident="explain", schedule=schedule, now=now, with_smarthost=smarthost)
    told = fill_in(took)
    words = told.description or ""
    status = "" if not told.status or words.startswith(told.status) else f"{told.status} "
    print(f"reply         {told.code} {status}{words}".rstrip() + ("" if told.status else " (no enhanced status)"))
    print(f"result        {took.state}/{took.result}, attempt {attempt}")
    if isinstance(verdict, Sent):
        print("verdict       delivered")
    elif isinstance(verdict, Retry):
        print(f"verdict       tried again after {verdict.after.total_seconds():.0f} s (±{JITTER:.0%} jitter)")
        print(f"next attempt  {render_time(verdict.due)}, number {attempt + 1}")
    elif verdict.is_refusal:
        print("verdict       failed: refused for good")
    else:
        print(f"verdict       failed: {_explain_end(schedule, attempt, now)}")
    print(f"expires       {render_time(schedule.deadline)}")
    return 0


def parse_attempt(reply: str, state: str, number: int, now: datetime) -> Attempt:
    """The attempt that a reply, or the lack of one, makes. Raises BadSetting."""
    try:
        where = State(state.lower())
    except ValueError:
        raise BadSetting(f"--state {state!r}: expected one of {', '.join(State)}") from None
    if reply.strip().lower() in _NO_REPLY:
        return Attempt(where, _NO_REPLY[reply.strip().lower()], number, now)
    answer = _parse_reply(reply)
    if answer.is_positive and where is State.MESSAGE:
        return Attempt(where, Result.ACCEPTED, number, now, answer.code, answer.enhanced_status, answer.description)
    if answer.is_positive or answer.is_intermediate:
        raise BadSetting(f"{reply!r} at {where}: a positive reply ends no attempt before --state message")
    return Attempt(where, Result.ERROR, number, now, answer.code, answer.enhanced_status, answer.description)


def _parse_reply(text: str) -> Reply:
    # A reply of several lines may come from a log, with \n written out.
    lines = [line for line in re.split(r"\r?\n|\\n", text.strip()) if line]
    try:
        return parse_reply([line.encode() for line in lines])
    except InvalidReply as error:
        raise BadSetting(f'{error}; expected e.g. "451 4.7.1 try later", or timeout, lost, invalid, error') from None


def _parse_seen(text: str | None, settings: RetrySettings, attempt: int, now: datetime) -> datetime:
    if text is not None:
        try:
            return parse_time(text)
        except ValueError as error:
            raise BadSetting(f"--seen {text!r}: {error}") from None
    intervals = settings.retry_interval
    waited = (intervals[min(number, len(intervals)) - 1] for number in range(1, attempt))
    return now - sum(waited, timedelta())


def _explain_end(schedule: Schedule, attempt: int, now: datetime) -> str:
    if schedule.is_over(attempt + 1, now) and schedule.most_attempts and attempt >= schedule.most_attempts:
        return f"attempt {attempt} was the last of {schedule.most_attempts}"
    return "the next attempt would come after the mail has expired"
