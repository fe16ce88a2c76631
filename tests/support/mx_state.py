"""How the scripted MX presents itself, and what its connections share."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.behaviour import Plan, Playbook
from tests.support.ledger import LedgerWriter

if TYPE_CHECKING:
    from tests.support.smtp_connection import SmtpConnection


@dataclass(frozen=True, slots=True)
class MxOptions:
    """How the MX presents itself; the same for all connections."""

    hostname: str = "mx.example"
    greeting: str = ""
    """The whole first reply, ``554 5.3.2 No service here``; empty: the usual 220."""
    pipelining: bool = True
    eight_bit: bool = True
    smtputf8: bool = True
    dsn: bool = True
    size: int | None = 52428800
    """Octets announced and enforced; None: neither."""
    users: Mapping[str, str] = field(default_factory=dict)
    """Name to password; AUTH is offered when there are any."""
    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    """Of AUTH, as offered; ``CRAM-MD5`` is understood too."""
    auth_required: bool = False
    auth_only_under_tls: bool = False
    messages_per_connection: int | None = None
    """After so many accepted mails the next MAIL gets 421 and the connection is closed."""
    connections: int | None = None
    """With so many open, the next one gets 421 as its greeting."""
    transcript: bool = False
    """Keep every line of both sides (not the content) in ``MxState.transcript``."""


@dataclass(slots=True)
class MxState:
    """What the connections of one MX share."""

    options: MxOptions
    playbook: Playbook
    writer: LedgerWriter
    tls: ssl.SSLContext | None = None
    connection_plan: Plan = field(default_factory=dict)
    """Steps of every connection, whatever its addresses: greeting, EHLO, STARTTLS, …"""
    connections: int = 0
    """Connections so far."""
    messages: int = 0
    """Mails stored so far."""
    commands: Counter[str] = field(default_factory=Counter)
    failed_handshakes: list[str] = field(default_factory=list)
    """Reasons of the TLS handshakes that failed."""
    open_sessions: set[SmtpConnection] = field(default_factory=set)
    transcript: list[tuple[int, str, str]] = field(default_factory=list)
    """(connection, ``C`` or ``S``, what was sent), only with ``MxOptions.transcript``."""
