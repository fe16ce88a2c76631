"""From an attempt to what is published: the result, the mail to be tried again, the copy for the records."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from shared.delivery.patterns import Match, Patterns
from shared.delivery.schedule import Schedule
from shared.delivery.texts import fill_in
from shared.delivery.verdict import Failed, Retry, Sent, Verdict, decide
from shared.mail.address import InvalidAddress, parse_mailbox, split
from shared.wire.instructions import STRATEGIES, Instructions, InvalidProperty
from shared.wire.message import Message
from shared.wire.publication import EVENT, Publication, Step
from shared.wire.result import Attempt, Result, State
from shared.wire.times import render_time

SLIM = ("mime", "mime64")
"""What a record need not carry; the key is kept, so that the payload can be deleted when the mail is final."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Routing keys for outcomes. "" = publish nowhere."""

    success: str = "success"
    failure: str = "failure"
    retries: str = "retries"
    results: str = ""
    dsn: str = "dsn"
    record: str = "record"
    strategies: Mapping[str, str] = field(default_factory=lambda: dict(zip(STRATEGIES, ("outbox", "seal"), strict=True)))
    """Strategy → key of its queue."""
    reserved: frozenset[str] = frozenset()
    """Keys that lead into our own queues: a message may not name them."""
    encoding: str = ""
    """content-encoding of what is published."""

    @property
    def published(self) -> tuple[str, ...]:
        """Every key that an outcome may be published to."""
        keys = (self.success, self.failure, self.retries, self.results, self.dsn, self.record, *self.strategies.values())
        return tuple(key for key in keys if key)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict, the attempt as it is told, and what to publish."""

    verdict: Verdict
    attempt: Attempt
    step: Step
    match: Match | None = None
    """What the response patterns said about the attempt."""


def conclude(
    message: Message,
    attempt: Attempt,
    *,
    instructions: Instructions,
    schedule: Schedule,
    keys: Keys,
    now: datetime,
    extracted: Mapping[str, Any] | None = None,
    with_smarthost: bool = False,
    patterns: Patterns | None = None,
    host: str | None = None,
) -> Outcome:
    """What becomes of ``message`` after ``attempt``. ``extracted``: of the content as sent, when it was at hand.

    ``patterns``: the response patterns in force; ``host``: name of the next hop, for their conditions.
    """
    match = find_match(message, instructions, attempt, patterns, host=host)
    attempt = apply_match(attempt, match)
    verdict = decide(attempt, ident=message.id, schedule=schedule, now=now, with_smarthost=with_smarthost, match=match)
    if attempt.state is State.MESSAGE and attempt.result in (Result.TIMEOUT, Result.LOST, Result.INVALID):
        attempt = replace(attempt, possible_duplicate=True)
    told = fill_in(attempt, permanent=isinstance(verdict, Failed) and verdict.is_refusal)
    after = _with_tags(_with_attempt(message, told, extracted), match)
    if isinstance(verdict, Retry):
        return Outcome(verdict, told, _retry(after, verdict, instructions, schedule, keys), match)
    if isinstance(verdict, Failed) and verdict.is_refusal and instructions.outbound:
        return Outcome(verdict, told, _hand_on(after, instructions, schedule, keys), match)
    return Outcome(verdict, told, _final(after, instructions.queues, keys, is_sent=isinstance(verdict, Sent)), match)


def find_match(
    message: Message, instructions: Instructions, attempt: Attempt, patterns: Patterns | None, *, host: str | None = None
) -> Match | None:
    """What the ``patterns`` say about an attempt to send ``message`` to the next hop named ``host``."""
    if patterns is None:
        return None
    tags = message.document.get("tags")
    named = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else ()
    return patterns.find(attempt, destination=instructions.recipient.domain, host=host, tags=named)


def apply_match(attempt: Attempt, match: Match | None) -> Attempt:
    """The attempt with what the response patterns say about it."""
    if match is None:
        return attempt
    return replace(
        attempt,
        bounce_class=None if match.bounce_class is None else str(match.bounce_class),
        fatal=match.fatal,
        individual=match.individual,
        strange=match.strange,
        greylisted=match.greylisted,
        fallback=match.fallback,
        properties=match.properties,
    )


def refuse(
    message: Message,
    reason: InvalidProperty,
    *,
    keys: Keys,
    now: datetime,
    strategy: str = "smtp",
    patterns: Patterns | None = None,
) -> Outcome:
    """The outcome for a message that cannot be sent because of what it says: ``process``/``invalid``."""
    attempt = Attempt(
        State.PROCESS, Result.INVALID, message.attempt, now, 554, "5.5.2", description=str(reason), strategy=strategy
    )
    match = None if patterns is None else patterns.find(attempt)
    attempt = apply_match(attempt, match)
    step = _final(_with_attempt(message, attempt, None), _usable_queues(message, keys), keys, is_sent=False)
    return Outcome(Failed(is_refusal=True), attempt, step, match)


def check_queues(instructions: Instructions, keys: Keys) -> None:
    """Raises InvalidProperty when the message names a key of our own queues: its results would be taken for mail."""
    for name, key in instructions.queues.items():
        if key in keys.reserved:
            raise InvalidProperty(f"queues.{name}: {key!r}: this key leads into a queue of the pipeline itself")


def _usable_queues(message: Message, keys: Keys) -> Mapping[str, str | None]:
    """Of the keys that a refused message names those that can be used: its sender waits for the result there."""
    named = message.document.get("queues")
    if not isinstance(named, Mapping):
        return {}
    fine = {name: key for name, key in named.items() if key is None or (isinstance(key, str) and 0 < len(key.encode()) <= 255)}
    return {name: key for name, key in fine.items() if key not in keys.reserved}


def hand_over(message: Message, strategy: str, keys: Keys) -> Step:
    """The mail, unattempted, for the sender of another strategy."""
    return Step((_mail(keys.strategies[strategy], message, keys),))


def render_acceptance(message: Message, keys: Keys) -> Publication:
    """The record that ``message`` is under way, for mail that no inbox of ours has told of, or not all."""
    return _record(message, "accepted", keys)


def _with_attempt(message: Message, attempt: Attempt, extracted: Mapping[str, Any] | None) -> Message:
    known = dict(extracted if extracted is not None else message.document.get("extracted") or {})
    for name, address in (("envelope", message.reverse_path), ("recipient", message.recipient)):
        try:
            known[name] = split(parse_mailbox(address)) if address else None
        except InvalidAddress:
            known[name] = None
    results = [*message.results, attempt.to_document()]
    return message.with_properties({"results": results, "extracted": known})


def _with_tags(message: Message, match: Match | None) -> Message:
    if match is None or not match.tags:
        return message
    tags = message.document.get("tags")
    known = tags if isinstance(tags, list) else []
    return message.with_properties({"tags": [*known, *(tag for tag in match.tags if tag not in known)]})


def _retry(message: Message, verdict: Retry, instructions: Instructions, schedule: Schedule, keys: Keys) -> Step:
    changes = {"nextattempt": {"time": render_time(verdict.due)}} | _pin_deadline(message, instructions, schedule)
    again = message.with_properties(changes, without=("delayed",))
    publications = [_mail(keys.retries, again, keys), _record(again, "retry", keys)]
    if copy := instructions.queues.get("retry"):
        publications.append(_result(copy, again.without_payload(), keys))
    return Step(tuple(publications))


def _hand_on(message: Message, instructions: Instructions, schedule: Schedule, keys: Keys) -> Step:
    """The next strategy of the router's chain takes the mail: a permanent refusal of one is not the end."""
    strategy, *rest = instructions.outbound
    changes = {"outbound": rest} | _pin_deadline(message, instructions, schedule)
    following = message.with_properties(changes, without=("nextattempt", "delayed"))
    return Step((_mail(keys.strategies[strategy], following, keys), _record(following, "retry", keys)))


def _pin_deadline(message: Message, instructions: Instructions, schedule: Schedule) -> dict[str, Any]:
    """After the first attempt: the publisher's own nextattempt counts for the deadline, and is about to be overwritten."""
    if instructions.deadline is None and instructions.not_before is not None and len(message.results) == 1:
        return {"maxdelivertime": render_time(schedule.deadline)}
    return {}


def _final(message: Message, queues: Mapping[str, str | None], keys: Keys, *, is_sent: bool) -> Step:
    event, default = ("success", keys.success) if is_sent else ("failure", keys.failure)
    # The time of an attempt that has been made: ours, once there was another one before.
    told = message.without_payload().with_properties({}, without=("nextattempt",) if len(message.results) > 1 else ())
    key = queues.get(event, default)
    # The broker takes a message with a reachable BCC for routed, so a key of the message's own is tried alone; and the recorder
    # learns a client's own payload key from the record only (for mail of our inboxes it knows it from the acceptance). A result
    # that keeps its content (keepmime) is far larger than what the recorder needs.
    is_slim = not any(name in told.document for name in SLIM) and not (message.channel == "amqp" and "key" in message.document)
    in_one = bool(key) and key == default and is_slim
    publications = []
    if key:
        publications.append(_result_and_record(key, told, event, keys) if in_one else _result(key, told, keys, otherwise=default))
    if not in_one:
        publications.append(_record(message, event, keys))
    if copy := queues.get("results", keys.results):
        publications.append(_result(copy, told, keys, otherwise=keys.results))
    return Step(tuple(publications))


def _mail(key: str, message: Message, keys: Keys) -> Publication:
    return Publication(key, message.render(keys.encoding), priority=_priority(message), encoding=keys.encoding)


def _record(message: Message, event: str, keys: Keys) -> Publication:
    slim = message.with_properties({}, without=SLIM)
    return Publication(keys.record, slim.render(keys.encoding), headers={EVENT: event}, encoding=keys.encoding)


def _result(key: str, told: Message, keys: Keys, *, otherwise: str = "") -> Publication:
    # Optional: the record is what counts. A key of the message's own that leads nowhere must not keep a worker for ever.
    body = told.render(keys.encoding)
    return Publication(key, body, priority=_priority(told), encoding=keys.encoding, otherwise=otherwise or None, is_optional=True)


def _result_and_record(key: str, told: Message, event: str, keys: Keys) -> Publication:
    body = told.render(keys.encoding)
    return Publication(key, body, record=True, headers={EVENT: event}, priority=_priority(told), encoding=keys.encoding)


def _priority(message: Message) -> int | None:
    priority = message.document.get("priority")
    return priority if isinstance(priority, int) and 0 <= priority <= 255 else None
