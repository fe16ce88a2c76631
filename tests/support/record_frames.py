"""Records as the other processes publish them, for tests of what the recorder makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import orjson

from shared.amqp.frame import Frame

SEEN = "2026-11-23 04:00:00"
SEEN_UNIX = 1_795_406_400


def make_mail(recipient: object = "bob@example.net", **properties: Any) -> dict[str, Any]:
    """A mail's JSON without content, as ``accepted`` records carry it; underscores in names become dashes."""
    ident = str(uuid4())
    mail = {
        "id": ident,
        "transaction": str(uuid4()),
        "recipients-total": 1,
        "channel": "smtp",
        "seen": SEEN,
        "envelope": "alice@example.org",
        "return-path": "alice@example.org",
        "recipient": recipient,
        "extracted": {"subject": "Hello", "headers": {"message-id": f"<{ident[:8]}@example.org>", "content-type": "text/plain"}},
    }
    return mail | {name.replace("_", "-"): value for name, value in properties.items()}


def make_result(attempt: int = 1, state: str = "message", result: str = "accepted", **properties: Any) -> dict[str, Any]:
    """One object of ``results``; attempt n was made n minutes after the mail was seen."""
    return {
        "state": state,
        "result": result,
        "attempt": attempt,
        "time": f"2026-11-23 04:{attempt:02}:00",
        "mta": "mx.example.net",
        "from": "192.0.2.1",
        "to": "192.0.2.2",
        "code": 250 if result == "accepted" else 451,
        "status": "2.0.0" if result == "accepted" else "4.7.1",
        "description": "Ok: queued" if result == "accepted" else "greylisted",
        "strategy": "smtp",
        **properties,
    }


def refused(attempt: int = 1, **properties: Any) -> dict[str, Any]:
    """A result that is no success."""
    return make_result(attempt, "rcptto", "error", **properties)


def make_frame(document: Mapping[str, Any] | bytes, event: str | None, **changes: Any) -> Frame:
    """The record as RabbitMQ would deliver it."""
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    values: dict[str, Any] = {
        "body": body,
        "encoding": None,
        "is_ours": True,
        "redelivered": False,
        "delivery_count": 0,
        "priority": None,
        "event": event,
        "tag": 0,
    }
    return Frame(**values | changes)


def accepted(mail: Mapping[str, Any]) -> Frame:
    """The mail was taken by an inbox."""
    return make_frame(mail, "accepted")


def retry(mail: Mapping[str, Any], *results: Mapping[str, Any], due: str = "2026-11-23 05:00:00") -> Frame:
    """An attempt failed, another is due."""
    return make_frame({**mail, "results": list(results), "nextattempt": {"time": due}}, "retry")


def success(mail: Mapping[str, Any], *results: Mapping[str, Any]) -> Frame:
    """Delivered. As on the key ``success``: without the key of the payload, unless ``keepmime``."""
    return make_frame({**_told(mail), "results": list(results or [make_result()])}, "success")


def failure(mail: Mapping[str, Any], *results: Mapping[str, Any]) -> Frame:
    """Failed for good."""
    return make_frame({**_told(mail), "results": list(results or [refused(code=550, status="5.1.1")])}, "failure")


def _told(mail: Mapping[str, Any]) -> dict[str, Any]:
    return dict(mail) if mail.get("keepmime") else {name: value for name, value in mail.items() if name != "key"}
