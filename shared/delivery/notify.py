"""Whether the sender of a mail is told what became of it, and the mail that tells it (RFC 3461, 3464). Pure.

At most one notification per recipient and action: its id is derived from the mail's id and the action. After a crash the same one is
published again, under the same id and, where the attempt stands in the journal, byte for byte; the senders of this host drop the
second (``shared.amqp.once``), any other reader can recognise it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from shared.delivery.outcome import Keys, Outcome
from shared.delivery.settings import RetrySettings
from shared.delivery.verdict import Failed, Retry, Sent, Verdict
from shared.mail.address import InvalidAddress, parse_mailbox
from shared.mail.dsn import DsnRequest, Notify, Returned, parse_dsn_request, parse_notify
from shared.mail.dsn_report import Action, Report, render_report
from shared.mail.headers import parse_extract
from shared.wire.message import PAYLOAD, Message, render_inline_content
from shared.wire.publication import EVENT, Publication
from shared.wire.result import Attempt, Result, State
from shared.wire.times import parse_time, render_time

_NAMESPACE = uuid5(NAMESPACE_URL, "urn:mailwarren:dsn")
_SEAL = "seal"
_SECURED = ("required", "verified")
_ASKED = {Action.FAILED: Notify.FAILURE, Action.DELAYED: Notify.DELAY, Action.RELAYED: Notify.SUCCESS}
_OWN_WORDS = frozenset(
    {State.PROCESS, State.SUPPRESSION, State.STORAGE, State.RESPONSIVE, State.PERSONALIZE, State.REWRITE, State.DNS}
)


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification that is due."""

    action: Action
    request: DsnRequest | None
    """What the mail itself asked for."""
    returns_all: bool
    is_sealed: bool
    key: str
    """Where it is published."""
    otherwise: str | None = None
    """The key to use when nothing is bound to ``key``."""


def decide_notice(
    message: Message,
    outcome: Outcome,
    *,
    settings: RetrySettings,
    keys: Keys,
    extracted: Mapping[str, Any] | None = None,
    is_handed_on: bool = False,
) -> Notice | None:
    """The notification that ``outcome`` makes; None: nobody is told.

    ``message``: as it was before the attempt; ``extracted``: of its content, when that was at hand; ``is_handed_on``: the router's
    chain goes on with another strategy, so that a refusal is not the end.
    """
    if not message.reverse_path or (action := _find_action(message, outcome.verdict, outcome.attempt, settings)) is None:
        return None
    if action is Action.FAILED and is_handed_on:
        return None
    request = _find_request(message)
    asked = request.notify if request is not None else None
    wanted = asked if asked is not None else _default(settings.dsn_notify, message.channel == "smtp")
    if _ASKED[action] not in wanted:
        return None
    if action is Action.RELAYED and asked is not None and outcome.attempt.dsn:
        return None  # the peer was asked, and has promised to tell
    if not _is_mailbox(message.reverse_path) or _is_report(message, extracted):
        return None
    key, otherwise = _find_key(message, keys)
    if not key:
        return None
    returned = request.returned if request is not None and request.returned is not None else settings.dsn_ret
    returns_all = returned is Returned.FULL and action is Action.FAILED
    return Notice(action, request, returns_all, _is_sealed(message, outcome.attempt), key, otherwise)


def derive_ident(ident: str, action: Action) -> str:
    """The id of the notification about the mail ``ident``: one per recipient and action, however often it is made."""
    return str(uuid5(_NAMESPACE, f"{ident}:{action}"))


def render_notice(
    message: Message,
    attempt: Attempt,
    notice: Notice,
    content: bytes | None,
    *,
    hostname: str,
    keys: Keys,
    retry_until: datetime | None = None,
) -> tuple[Publication, ...]:
    """The mail that tells it, and its record. ``attempt``: as it is told; ``content``: of the mail, None when it cannot be had."""
    ident = derive_ident(message.id, notice.action)
    moment = parse_time(render_time(attempt.time))
    report = _describe(message, attempt, notice, ident=ident, moment=moment, hostname=hostname, retry_until=retry_until)
    mime = render_report(report, content)
    document = {
        "id": ident,
        "transaction": ident,
        "recipients-total": 1,
        "channel": "amqp",
        "seen": render_time(moment),
        "envelope": "",
        "return-path": "",
        "recipient": message.reverse_path,
        "strategy": "smtp",
        "size": len(mime),
        "sha256": hashlib.sha256(mime).hexdigest(),
        "extracted": parse_extract(mime),
    } | render_inline_content(mime)
    if (security := message.document.get("security")) in _SECURED:
        # What had to travel encrypted must not come back in clear text (as RFC 8689 5 has it for REQUIRETLS).
        document["security"] = security
    mail = Message(document)
    published = Publication(
        notice.key,
        mail.render(keys.encoding),
        encoding=keys.encoding,
        otherwise=notice.otherwise,
        is_optional=notice.key != keys.dsn and notice.otherwise is None,
    )
    if notice.key != keys.dsn:
        return (published,)  # an application takes it, and what becomes of it
    record = mail.with_properties({}, without=PAYLOAD).render(keys.encoding)
    return (published, Publication(keys.record, record, headers={EVENT: "accepted"}, encoding=keys.encoding))


def _describe(
    message: Message,
    attempt: Attempt,
    notice: Notice,
    *,
    ident: str,
    moment: datetime,
    hostname: str,
    retry_until: datetime | None,
) -> Report:
    words = [attempt.description or ""]
    if attempt.state is State.PROCESS and attempt.result is Result.TIMEOUT and message.results:
        # Time ran out between two attempts: what the last of them came to is what the sender wants to know.
        last = message.results[-1]
        words += [f"; the last answer was: {last.get('code', '')} {last.get('description', '')}"]
    is_quoted = attempt.result in (Result.ERROR, Result.ACCEPTED) and attempt.state not in _OWN_WORDS and attempt.mta is not None
    return Report(
        ident=ident,
        action=notice.action,
        hostname=hostname,
        time=moment,
        arrival=message.seen,
        reverse_path=message.reverse_path,
        recipient=message.recipient,
        code=attempt.code,
        status=attempt.status,
        description="".join(words),
        is_quoted=is_quoted,
        remote_name=attempt.mta,
        remote_ip=attempt.remote_ip,
        retry_until=retry_until if notice.action is Action.DELAYED else None,
        request=notice.request,
        returns_all=notice.returns_all,
        is_sealed=notice.is_sealed,
    )


def _find_action(message: Message, verdict: Verdict, attempt: Attempt, settings: RetrySettings) -> Action | None:
    match verdict:
        case Sent():
            return Action.RELAYED
        case Failed():
            return Action.FAILED
        case Retry():
            return Action.DELAYED if _is_first_late_attempt(message, attempt, settings) else None


def _is_first_late_attempt(message: Message, attempt: Attempt, settings: RetrySettings) -> bool:
    """``dsn-delay`` has passed since the first attempt, and had not at any attempt before."""
    times = [moment for result in message.results if (moment := _read_time(result.get("time"))) is not None]
    if not times:
        return settings.dsn_delay.total_seconds() == 0
    this = parse_time(render_time(attempt.time))
    return this - times[0] >= settings.dsn_delay and all(moment - times[0] < settings.dsn_delay for moment in times)


def _read_time(value: Any) -> datetime | None:
    try:
        return parse_time(value)
    except ValueError:
        return None


def _find_request(message: Message) -> DsnRequest | None:
    """What the mail asks for; nothing when it cannot be read: a refused message is answered, too."""
    try:
        return parse_dsn_request(message.document.get("dsn"))
    except ValueError:
        return None


@lru_cache(maxsize=8)
def _default(setting: str, came_by_smtp: bool) -> frozenset[Notify]:
    if setting:
        return parse_notify(setting, "dsn-notify")
    return frozenset({Notify.FAILURE}) if came_by_smtp else frozenset()


def _is_mailbox(address: str) -> bool:
    try:
        parse_mailbox(address)
    except InvalidAddress:
        return False
    return True


def _is_report(message: Message, extracted: Mapping[str, Any] | None) -> bool:
    """The mail is a notification itself, from somebody who does not use the null reverse-path for it."""
    known = extracted if extracted is not None else message.document.get("extracted")
    headers = known.get("headers") if isinstance(known, Mapping) else None
    kind = headers.get("content-type") if isinstance(headers, Mapping) else None
    told = kind.lower() if isinstance(kind, str) else ""
    return told.lstrip().startswith("multipart/report") and "delivery-status" in told


def _is_sealed(message: Message, attempt: Attempt) -> bool:
    """It asked to be sealed, was, or is going to be."""
    chain = message.document.get("outbound")
    strategies = [message.document.get("strategy"), attempt.strategy, *(result.get("strategy") for result in message.results)]
    return _SEAL in strategies or (isinstance(chain, list) and _SEAL in chain)


def _find_key(message: Message, keys: Keys) -> tuple[str, str | None]:
    """The key for this mail's notifications and the one to fall back to; "" = nowhere."""
    named = message.document.get("queues")
    if not isinstance(named, Mapping) or "dsn" not in named:
        return keys.dsn, None
    own = named["dsn"]
    if own is None:
        return "", None
    if not isinstance(own, str) or not own.isprintable() or not 0 < len(own.encode()) <= 255 or own in keys.reserved:
        return keys.dsn, None  # it cannot be used: the mail was refused for it, and its sender is told all the same
    return own, keys.dsn or None
