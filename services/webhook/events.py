"""From a record to an event as endpoints get it. Pure.

The record is the mail's JSON without its content. What may be a secret of whoever sent the mail is left out as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from shared.amqp.frame import Frame
from shared.trouble import BadMessage
from shared.wire.document import decompress, is_too_deep
from shared.wire.message import PAYLOAD
from shared.wire.times import parse_time

KINDS: Mapping[str, str] = {"accepted": "accepted", "retry": "deferred", "success": "delivered", "failure": "failed"}
"""The header ``event`` of a record → what endpoints call it."""
WITHHELD = frozenset((*PAYLOAD, "dkim", "arc", "smarthost"))
"""Content, private keys, passwords."""
MOST_OCTETS = 64 * 1024
"""Of one event; of a larger one only ``KEPT`` is told."""
KEPT = ("id", "transaction", "message-id", "envelope", "recipient", "seen", "channel")
MOST_TEXT = 2000


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one mail."""

    kind: str
    """``accepted``, ``deferred``, ``delivered`` or ``failed``."""
    tags: tuple[Any, ...]
    document: Mapping[str, Any]
    """As it is posted: ``id`` ``type`` ``timestamp`` ``data``."""

    @property
    def id(self) -> str:
        """The same whenever the same thing is told again."""
        return str(self.document["id"])


def parse_events(frame: Frame) -> list[Event]:
    """The events in a copy of a message for the recorder, one record or a list of them. Raises BadMessage."""
    if not frame.is_ours:
        raise BadMessage("not published by one of our processes (app-id)")
    raw = decompress(frame.body) if frame.encoding == "gzip" else frame.body
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadMessage(f"body is not JSON: {error}") from None
    records = body if isinstance(body, list) else [body]
    if is_too_deep(records, raw) or not all(isinstance(record, dict) and isinstance(record.get("id"), str) for record in records):
        raise BadMessage("body: expected a record, a JSON object with an id, or a list of them")
    kind = KINDS.get(frame.event or "")
    return [make_event(record, kind or derive_kind(record)) for record in records]


def derive_kind(record: Mapping[str, Any]) -> str:
    """Of a record whose header got lost. Raises BadMessage when that it is the last one cannot be told."""
    results = _results(record)
    if not results:
        return "accepted"
    if (results[-1].get("state"), results[-1].get("result")) == ("message", "accepted"):
        return "delivered"
    raise BadMessage("header event is missing, and the record does not tell whether this attempt was the last")


def make_event(record: Mapping[str, Any], kind: str) -> Event:
    """What is told of a record. Its id is made of the mail's, the attempt's and the kind: never another for the same thing."""
    results = _results(record)
    number, moment = 0, record.get("seen")
    if kind != "accepted" and results:
        number, moment = results[-1].get("attempt", len(results)), results[-1].get("time", moment)
    data = {name: value for name, value in record.items() if name not in WITHHELD}
    document = {"id": f"{record['id']}.{number}.{kind}"[:255], "type": kind, "timestamp": _render(moment), "data": data}
    if len(orjson.dumps(document)) > MOST_OCTETS:
        document["data"] = _shorten(data, results)
    tags = record.get("tags")
    return Event(kind, tuple(tags) if isinstance(tags, list) else (), document)


def _results(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    results = record.get("results")
    return [one for one in results if isinstance(one, dict)] if isinstance(results, list) else []


def _render(moment: Any) -> str | None:
    """RFC 3339, as HTTP APIs tell times."""
    try:
        return parse_time(moment).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, TypeError):
        return None


def _shorten(data: Mapping[str, Any], results: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The last attempt, and what says which mail it is."""
    kept: dict[str, Any] = {name: data[name] for name in KEPT if isinstance(data.get(name), str) and len(data[name]) <= MOST_TEXT}
    last = {key: one for key, one in results[-1].items() if not isinstance(one, str | dict | list)} if results else {}
    told = {key: one for key, one in results[-1].items() if isinstance(one, str) and len(one) <= MOST_TEXT} if results else {}
    return kept | ({"results": [last | told]} if results else {}) | {"truncated": True}
