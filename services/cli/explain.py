"""``mailwarren explain``: what a reply of a peer means for a mail: which response pattern, which verdict, when again."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from services.cli.given import Config, load_given
from shared.delivery.patterns import Match, Pattern
from shared.delivery.patterns_file import load_patterns
from shared.delivery.schedule import JITTER, Schedule
from shared.delivery.settings import RetrySettings
from shared.delivery.texts import fill_in
from shared.delivery.verdict import Retry, Sent, Verdict, decide
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
    destination: Annotated[str, typer.Option("--destination", metavar="DOMAIN", help="Domain of the recipient.")] = "",
    host: Annotated[str, typer.Option("--host", metavar="NAME", help="The next hop: MX or smarthost.")] = "",
    source: Annotated[str, typer.Option("--source", metavar="IP", help="The local address.")] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag of the mail; may be repeated.")] = None,
    patterns: Annotated[
        str | None, typer.Option("--patterns", metavar="FILE", help="Response patterns of yours; else RESPONSE_PATTERNS.")
    ] = None,
    intervals: Annotated[str | None, typer.Option("--retry-interval", help="Seconds, with commas; else RETRY_INTERVAL.")] = None,
    most: Annotated[int | None, typer.Option("--max-attempts", help="Else MAX_ATTEMPTS.")] = None,
    lifetime: Annotated[str | None, typer.Option("--max-delivertime", help="Else MAX_DELIVERTIME.")] = None,
    config: Config = None,
) -> int:
    """What a peer's reply means for a mail.

    \b
    Which rule says so, and whether it is delivered, failed, or tried again and when.
      mailwarren explain "451 4.7.1 try later" --attempt 3
      mailwarren explain "550 5.1.1 no such user"
      mailwarren explain timeout --state message
      mailwarren explain "550 5.7.1 go away" --destination b.example --patterns mine.toml
    """
    settings = load_given(
        RetrySettings, config, retry_interval=intervals, max_attempts=most, max_delivertime=lifetime, response_patterns=patterns
    )
    now = datetime.now(UTC)
    took = parse_attempt(reply, state, attempt, now)
    started = _parse_seen(seen, settings, attempt, now)
    schedule = Schedule(started + settings.max_delivertime, settings.max_attempts, settings.retry_interval, 0.0)
    given: dict[str, Any] = {"destination": destination, "host": host, "source": source, "tags": tag or ()}
    known = load_patterns(settings.response_patterns)
    match = known.find(took, **given)
    verdict = decide(took, ident="explain", schedule=schedule, now=now, with_smarthost=smarthost, match=match)
    rules = _tell_rules(known.find_all(took, **given), match, took)
    print("\n".join([*_tell_reply(took), *rules, *_tell_verdict(verdict, match, schedule, attempt, now)]))
    return 0


def _tell_reply(took: Attempt) -> list[str]:
    told = fill_in(took)
    words = told.description or ""
    status = "" if not told.status or words.startswith(told.status) else f"{told.status} "
    return [
        f"reply         {told.code} {status}{words}".rstrip() + ("" if told.status else " (no enhanced status)"),
        f"result        {took.state}/{took.result}, attempt {took.number}",
    ]


def _tell_rules(found: Sequence[Pattern], match: Match | None, took: Attempt) -> list[str]:
    if match is None:
        return []
    lines = []
    for pattern in found:
        lines += [f"rule          {pattern.match.rule}", f"  when        {_cut(pattern.explain(took))}"]
    lines.append(f"class         {match.bounce_class or 'none'}")
    if match.flags:
        lines.append("flags         " + ", ".join(f"{name} = {str(value).lower()}" for name, value in match.flags.items()))
    if match.tags:
        lines.append(f"tags          {', '.join(match.tags)}")
    if match.properties:
        lines.append("sets          " + ", ".join(f"{name} = {value}" for name, value in match.properties.items()))
    return lines


def _tell_verdict(verdict: Verdict, match: Match | None, schedule: Schedule, attempt: int, now: datetime) -> list[str]:
    if isinstance(verdict, Sent):
        lines = ["verdict       delivered"]
    elif isinstance(verdict, Retry):
        is_rules = match is not None and match.interval is not None
        spread = "as the rule says" if is_rules else f"±{JITTER:.0%} jitter"
        lines = [
            f"verdict       tried again after {verdict.after.total_seconds():.0f} s ({spread})",
            f"next attempt  {render_time(verdict.due)}, number {attempt + 1}",
        ]
    elif verdict.is_refusal:
        lines = ["verdict       failed: refused for good"]
    else:
        lines = [f"verdict       failed: {_explain_end(schedule, attempt, now)}"]
    return [*lines, f"expires       {render_time(schedule.deadline)}"]


def _cut(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}…"


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
