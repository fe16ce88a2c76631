"""The result of one attempt, as it stands in ``results``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from shared.wire.times import render_time

MAX_DESCRIPTION = 1024
"""Characters of a peer's text that are kept."""

FIELDS = frozenset(
    {
        "state", "result", "attempt", "time", "mta", "from", "to", "messages", "sent", "authentication", "code",
        "status", "description", "dsn", "cipher", "certificate", "strategy", "possible-duplicate", "class", "fatal",
        "individual", "strange", "greylisted", "fallback",
    }
)  # fmt: skip
"""Every property that a result has of itself."""


class State(StrEnum):
    """How far an attempt came, in the order of an attempt (MailerQ's names)."""

    PROCESS = "process"
    SUPPRESSION = "suppression"
    STORAGE = "storage"
    RESPONSIVE = "responsive"
    PERSONALIZE = "personalize"
    REWRITE = "rewrite"
    DNS = "dns"
    BIND = "bind"
    CONNECT = "connect"
    INTRO = "intro"
    EHLO = "ehlo"
    HELO = "helo"
    STARTTLS = "starttls"
    AUTHPLAIN = "authplain"
    AUTHLOGIN = "authlogin"
    AUTHUSERNAME = "authusername"
    AUTHPASSWORD = "authpassword"
    AUTHCRAM = "authcram"
    AUTHRESPONSE = "authresponse"
    MAILFROM = "mailfrom"
    RCPTTO = "rcptto"
    DATA = "data"
    MESSAGE = "message"


class Result(StrEnum):
    """What happened at that state."""

    ACCEPTED = "accepted"
    TIMEOUT = "timeout"
    LOST = "lost"
    INVALID = "invalid"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt. ``None`` fields are left out on the wire."""

    state: State
    result: Result
    number: int
    """From 1."""
    time: datetime
    code: int | None = None
    """SMTP reply code, the peer's or (when the verdict is ours) made up by ``shared.delivery.texts``."""
    status: str | None = None
    """Enhanced status code (RFC 3463), of the same class as ``code`` when we wrote it."""
    description: str | None = None
    """The peer's words verbatim, or ours."""
    mta: str | None = None
    """Name in the peer's 220 greeting."""
    local_ip: str | None = None
    remote_ip: str | None = None
    messages: int | None = None
    """How many messages the connection has carried, this one included."""
    sent: Mapping[str, int] | None = None
    """``connection`` and ``data``: bytes."""
    authentication: str | None = None
    dsn: bool | None = None
    cipher: Mapping[str, Any] | None = None
    certificate: Mapping[str, Any] | None = None
    strategy: str = "smtp"
    possible_duplicate: bool = False
    """The peer may have taken the mail although we count the attempt as unfinished."""
    bounce_class: str | None = None
    """``class``: what was in the way (``shared.delivery.patterns.BounceClass``)."""
    fatal: bool | None = None
    """This and the next four: only when a response pattern set them; their meaning is with ``shared.delivery.patterns.Match``."""
    individual: bool | None = None
    strange: bool | None = None
    greylisted: bool | None = None
    fallback: bool | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)
    """Further properties that a response pattern set; never one of ours (``FIELDS``)."""

    def to_document(self) -> dict[str, Any]:
        """The object as it stands in ``results`` on the wire."""
        wire: dict[str, Any] = {
            "state": str(self.state),
            "result": str(self.result),
            "attempt": self.number,
            "time": render_time(self.time),
            "mta": self.mta,
            "from": self.local_ip,
            "to": self.remote_ip,
            "messages": self.messages,
            "sent": self.sent,
            "authentication": self.authentication,
            "code": self.code,
            "status": self.status,
            "description": None if self.description is None else clean_text(self.description),
            "dsn": self.dsn,
            "cipher": self.cipher,
            "certificate": self.certificate,
            "strategy": self.strategy,
            "possible-duplicate": self.possible_duplicate or None,
            "class": self.bounce_class,
            "fatal": self.fatal,
            "individual": self.individual,
            "strange": self.strange,
            "greylisted": self.greylisted,
            "fallback": self.fallback,
        }
        further = {name: value for name, value in self.properties.items() if name not in FIELDS}
        return {name: value for name, value in wire.items() if value is not None} | further


def clean_text(text: str) -> str:
    """``text`` without control bytes and lone surrogates, cut to MAX_DESCRIPTION characters: safe for JSON, logs and Postgres."""
    if text.isascii() and text.isprintable():
        return text[:MAX_DESCRIPTION]
    kept = "".join(" " if char.isspace() else char for char in text if char.isprintable() or char.isspace())
    return kept[:MAX_DESCRIPTION]
