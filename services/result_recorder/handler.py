"""From a record on the wire to rows. Pure.

A record is the mail's JSON without its content; a message holds one, or a list of them (``shared.wire.bundle``). The AMQP header
``event`` says what happened; where it got lost (a record that was parked and put back by hand) the content tells, as far as it can.
Text of any kind is cleaned, never a reason to lose a record.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from shared.amqp.frame import Frame
from shared.storage.records import AttemptRow, StatusRow, SubmissionRow
from shared.trouble import BadMessage
from shared.wire.document import MAX_DEPTH, decompress, is_too_deep

EVENTS = frozenset(("accepted", "retry", "success", "failure"))
MAX_ID = 255
"""Characters of an id; ours have 36."""
MAX_TEXT = 1024
MAX_ADDRESS = 512
"""Characters, which are 2,048 octets at most: the indexes of Postgres take no more than 2,704."""
MAX_NUMBER = 2**31 - 1
MAX_TIME = 40
"""Characters of a time; ours have 19."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_OWN_KEY = re.compile(r"v1/\d{4}/\d\d/\d\d/([0-9a-zA-Z-]+)")


class BadRecord(BadMessage):
    """It cannot be recorded: parked with this text as the reason."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record as rows."""

    id: str
    transaction: str
    recipients_total: int
    """Of the submission."""
    moment: int
    """Unix seconds of what it tells: acceptance or attempt."""
    submission: SubmissionRow | None
    """Not for a final record, unless it alone knows the payload's key."""
    attempts: tuple[AttemptRow, ...]
    status: StatusRow | None
    kept: str | None
    """Key of a payload that outlives the mail."""


def parse_frame(frame: Frame, *, now: int, client_prefix: str = "") -> tuple[list[Record], str]:
    """The rows of every record in a message, and what is wrong with those that cannot be recorded; "": nothing.

    ``client_prefix``: the keys in the message store that publishers may name.
    """
    records: list[Record] = []
    wrong = ""
    try:
        if not frame.is_ours:
            raise BadRecord("not published by one of our processes (app-id)")
        body = parse_body(frame)
        documents = body if isinstance(body, list) else [body]
        if not documents:
            raise BadRecord("body is an empty list, expected records")
        for number, document in enumerate(documents, 1):
            try:
                records.append(parse_record(document, frame.event, now=now, client_prefix=client_prefix))
            except BadRecord as error:
                wrong = wrong or (f"record {number} of {len(documents)}: {error}" if isinstance(body, list) else str(error))
    except BadMessage as error:
        return [], str(error)
    return records, wrong


def parse_record(document: Any, event: str | None, *, now: int, client_prefix: str = "") -> Record:
    """The rows of one record. Raises BadRecord."""
    if not isinstance(document, dict):
        raise BadRecord(f"it is a JSON {type(document).__name__}, expected an object")
    mail = _Mail(document, now, client_prefix)
    event = event if event in EVENTS else derive_event(document, mail)
    of = mail.id, mail.transaction, mail.recipients_total
    if event == "accepted":
        return Record(*of, mail.seen, mail.submission("accepted", mail.due), (), None, mail.kept)
    if event == "retry":
        if not mail.attempts:
            raise BadRecord("results: a retry without an attempt")
        due = mail.due if _text(document, "nextattempt.time") else mail.time
        attempts = mail.attempt_rows(due)
        return Record(*of, mail.time, mail.submission("deferred", mail.seen), attempts, None, mail.kept)
    submission = mail.submission("deferred", mail.seen) if mail.datafile and not mail.keepmime else None
    status = mail.status_row("delivered" if event == "success" else "failed")
    return Record(*of, mail.time, submission, (), status, mail.kept)


def parse_body(frame: Frame) -> dict[str, Any] | list[Any]:
    """The JSON in it, as leniently as can be: a lone surrogate or a wrong byte must not cost the record. Raises BadRecord."""
    raw = decompress(frame.body) if frame.encoding == "gzip" else frame.body
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            document = json.loads(raw.decode("utf-8", "replace"), strict=False)
        except (ValueError, RecursionError) as error:
            raise BadRecord(f"body is not JSON: {error}") from None
    if not isinstance(document, dict | list):
        raise BadRecord(f"body is a JSON {type(document).__name__}, expected an object or a list of objects")
    if is_too_deep(document, raw):
        raise BadRecord(f"body is nested deeper than {MAX_DEPTH}")
    return document


def derive_event(document: Mapping[str, Any], mail: "_Mail") -> str:
    """What happened, from the content alone. Raises BadRecord when that does not tell: a guess could delete a live payload."""
    if not mail.attempts:
        return "accepted"
    last = mail.attempts[-1]
    if last.get("state") == "message" and last.get("result") == "accepted":
        return "success"
    if _text(document, "nextattempt.time") and mail.due > mail.time:
        return "retry"
    if "outbound" in document:
        raise BadRecord("header event is missing, and the content does not tell whether this attempt was the last")
    return "failure"


def clean(text: str, limit: int = MAX_TEXT) -> str:
    """``text`` as Postgres can keep it: control bytes become spaces, NUL and lone surrogates go, at most ``limit`` characters."""
    if not (text.isascii() and text.isprintable()):
        text = _CONTROL.sub(lambda match: " " if match[0] in "\t\r\n" else "", text)
    return text if len(text) <= limit else text[:limit]


def clean_json(value: Any) -> str:
    """``value`` as JSON text that jsonb takes."""
    try:
        text = orjson.dumps(value).decode()
    except (orjson.JSONEncodeError, RecursionError):
        # Integers beyond 64 bits or lone surrogates, let in by the lenient parser.
        return orjson.dumps(_scrub(value)).decode()
    return orjson.dumps(_scrub(value)).decode() if "\\u00" in text else text


class _Mail:
    """What the rows of one record have in common."""

    __slots__ = (
        "attempts", "datafile", "destination", "document", "due", "extracted", "id", "keepmime", "message_id", "recipient",
        "recipients_total", "seen", "sender", "subject", "time", "transaction",
    )  # fmt: skip

    def __init__(self, document: Mapping[str, Any], now: int, client_prefix: str) -> None:
        self.document = document
        self.id = _ident(document, "id")
        self.transaction = _ident(document, "transaction") if "transaction" in document else self.id
        self.recipients_total = number if (number := _number(document.get("recipients-total"))) else 1
        self.recipient = _text(document, "recipient")[:MAX_ADDRESS]
        self.destination = self.recipient.rpartition("@")[2].lower()
        envelope = _text(document, "envelope")
        self.sender = "" if envelope == "<>" else envelope[:MAX_ADDRESS]
        extracted = document.get("extracted")
        self.extracted = extracted if isinstance(extracted, dict) else {}
        self.subject = _text(self.extracted, "subject")
        self.message_id = _message_id(document, self.extracted) or self.id
        self.seen = _unix(document.get("seen"), now)
        self.attempts = _attempts(document)
        self.time = _unix(self.attempts[-1].get("time"), now) if self.attempts else self.seen
        self.due = max(self.seen, _unix(_text(document, "nextattempt.time") or document.get("delayed"), self.seen))
        self.keepmime = bool(document.get("keepmime"))
        self.datafile = _datafile(document, self, client_prefix)

    @property
    def kept(self) -> str | None:
        return self.datafile if self.keepmime else None

    def submission(self, status: str, due: int) -> SubmissionRow:
        entry = {"recipient": self.recipient, "message_id": self.message_id}
        if self.datafile and status != "accepted":
            # A sender may have stored the content of this recipient alone.
            entry["datafile"] = self.datafile
        return SubmissionRow(
            transaction=self.transaction,
            message_id=self.message_id,
            message_type=_message_type(self.extracted),
            sender=self.sender,
            recipients=orjson.dumps({self.id: entry}).decode(),
            recipients_total=self.recipients_total,
            subject=self.subject,
            channel=_text(self.document, "channel") or "amqp",
            status=status,
            return_path=_text(self.document, "return-path") or self.sender,
            datafile=self.datafile,
            strategy=_text(self.document, "strategy") or None,
            ids=orjson.dumps([self.id] if self.message_id == self.id else [self.id, self.message_id]).decode(),
            keepmime="t" if self.keepmime else "f",
            next_attempt_at=due,
        )

    def attempt_rows(self, due: int) -> tuple[AttemptRow, ...]:
        last = len(self.attempts) - 1
        return tuple(
            AttemptRow(
                id=self.id,
                recipient=self.recipient,
                attempt=attempt["attempt"],
                state=_text(attempt, "state") or None,
                result=_text(attempt, "result") or None,
                code=_number(attempt.get("code")),
                status=_text(attempt, "status") or None,
                description=_text(attempt, "description") or None,
                bounce_class=_text(attempt, "class") or None,
                mta=_text(attempt, "mta") or None,
                local_ip=_text(attempt, "from") or None,
                remote_ip=_text(attempt, "to") or None,
                time=_unix(attempt.get("time"), self.time),
                destination=self.destination,
                next_attempt_at=due if position == last else None,
                report=clean_json(attempt),
            )
            for position, attempt in enumerate(self.attempts)
        )

    def status_row(self, status: str) -> StatusRow:
        last = self.attempts[-1] if self.attempts else {}
        return StatusRow(
            id=self.id,
            transaction=self.transaction,
            recipients_total=self.recipients_total,
            message_id=self.message_id,
            subject=self.subject,
            sender=self.sender,
            recipient=self.recipient,
            delivery_strategy=_text(last, "strategy") or None,
            status=status,
            state=_text(last, "state") or None,
            code=_number(last.get("code")),
            bounce_class=_text(last, "class") or None,
            destination=self.destination,
            results=clean_json(self.attempts),
            accepted_at=_unix(self.document.get("seen"), 0) or None,
        )


def _ident(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value or len(value) > MAX_ID or clean(value) != value:
        raise BadRecord(f"{name}: {ascii(value)[:80]}: expected a text of 1 to {MAX_ID} printable characters")
    return value


def _text(document: Mapping[str, Any], path: str) -> str:
    """The cleaned text under ``path`` (``a.b`` looks into an object); "" when there is none."""
    name, dot, inner = path.partition(".")
    value = document.get(name)
    if dot:
        value = value.get(inner) if isinstance(value, dict) else None
    return clean(value) if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_NUMBER else None


def _unix(value: Any, default: int) -> int:
    """Unix seconds of a time on the wire; ``default`` when it is none."""
    if not isinstance(value, str):
        return default
    moment = _read_time(value) if len(value) <= MAX_TIME else None
    return default if moment is None else moment


@lru_cache(maxsize=1024)
def _read_time(text: str) -> int | None:
    # The records of one second come together.
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _attempts(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``results`` with a number in every attempt: its own, else its place."""
    results = document.get("results")
    if results is None:
        return []
    if not isinstance(results, list) or not all(isinstance(attempt, dict) for attempt in results):
        raise BadRecord("results: expected a list of objects")
    numbers = [attempt.get("attempt") for attempt in results]
    if numbers == list(range(1, len(results) + 1)):
        return results
    numbered: dict[int, dict[str, Any]] = {}
    for place, attempt in enumerate(results, 1):
        number = _number(attempt.get("attempt")) or place
        numbered[number] = attempt | {"attempt": number}
    return [numbered[number] for number in sorted(numbered)]


def _message_id(document: Mapping[str, Any], extracted: Mapping[str, Any]) -> str:
    """The client's or the inbox's id when it is not just ours again, else the Message-ID header."""
    given = _text(document, "message-id")
    if given and given != document.get("id"):
        return clean(given, MAX_ID)
    headers = extracted.get("headers")
    header = headers.get("message-id") if isinstance(headers, dict) else None
    if isinstance(header, list):
        header = header[0] if header else None
    return clean(header.strip(), MAX_ID) if isinstance(header, str) else ""


def _message_type(extracted: Mapping[str, Any]) -> str:
    headers = extracted.get("headers")
    kind = headers.get("content-type") if isinstance(headers, dict) else None
    return "report" if isinstance(kind, str) and kind.lstrip().lower().startswith("multipart/report") else "mail"


def _datafile(document: Mapping[str, Any], mail: _Mail, client_prefix: str) -> str | None:
    """The key whose payload goes with this mail.

    Only a key made for this very mail, or one that publishers may name: a stranger's key must not get somebody else's payload deleted.
    """
    key = document.get("key")
    if not isinstance(key, str) or len(key) > MAX_TEXT or clean(key) != key:
        return None
    own = _OWN_KEY.fullmatch(key)
    if own is not None:
        return key if own[1] in (mail.transaction, mail.id) else None
    return key if client_prefix and key.startswith(client_prefix) else None


def _scrub(value: Any) -> Any:
    if isinstance(value, str):
        return _CONTROL.sub(lambda match: " " if match[0] in "\t\r\n" else "", value)
    if isinstance(value, dict):
        return {_scrub(str(name)): _scrub(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_scrub(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return str(value)
    return value
