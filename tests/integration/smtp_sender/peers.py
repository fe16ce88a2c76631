"""Sessions to the scripted MX, with timeouts that a test can wait for."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from services.smtp_sender.opening import Manners, open_session
from services.smtp_sender.session import Ending, Envelope, Session, Target, Timeouts
from services.smtp_sender.tls import Tls
from shared.wire.instructions import Security
from tests.support.certificates import Certificates, Kind
from tests.support.mx import MxOptions, ScriptedMx

CONTENT = b"From: a@b.example\r\nX-Token: t1\r\n\r\nhello\r\n"
SHORT = Timeouts(greeting=0.4, ehlo=0.4, mail=0.4, rcpt=0.4, data=0.4, block=0.4, dot=0.4, quit=0.4)


def envelope(
    recipient: str = "ok@x.example", reverse_path: str = "r@a.example", *, size: int = len(CONTENT), **more: bool
) -> Envelope:
    """What a transaction says; ``is_eight_bit`` and ``needs_utf8`` by name."""
    return Envelope(reverse_path, recipient, size, more.get("is_eight_bit", False), more.get("needs_utf8", False))


def target(mx: ScriptedMx, **more: object) -> Target:
    """The MX, as host mx.example, without TLS."""
    given = {"host": "mx.example", "address": mx.host, "port": mx.port, "security": Security.OPTIONAL, "connect_timeout": 2.0}
    return Target(**(given | more))  # type: ignore[arg-type] # tests name the fields


async def open_to(one: Target, *, ca: Path | None = None, timeouts: Timeouts = SHORT, ends_in: float = 60) -> Session | Ending:
    """A session, or how it ended before the first transaction."""
    manners = Manners("me.example", Tls(str(ca) if ca else ""), timeouts)
    return await open_session(one, manners, ends_at=time.monotonic() + ends_in)


async def opened(one: Target, *, ca: Path | None = None, timeouts: Timeouts = SHORT) -> Session:
    """A session that must open."""
    session = await open_to(one, ca=ca, timeouts=timeouts)
    assert isinstance(session, Session), session
    return session


async def refused(one: Target, *, ca: Path | None = None, timeouts: Timeouts = SHORT) -> Ending:
    """How a session ended that must not open."""
    ending = await open_to(one, ca=ca, timeouts=timeouts)
    assert isinstance(ending, Ending), ending
    return ending


@asynccontextmanager
async def scripted(
    folder: Path,
    *,
    connection: Sequence[str] = (),
    options: MxOptions | None = None,
    certificates: Certificates | None = None,
    kind: Kind = Kind.GOOD,
) -> AsyncIterator[ScriptedMx]:
    """A scripted MX, with STARTTLS when there are certificates."""
    tls = certificates.server_context(kind) if certificates else None
    async with ScriptedMx(folder, connection=connection, options=options or MxOptions(transcript=True), tls=tls) as mx:
        yield mx


def commands(mx: ScriptedMx) -> list[str]:
    """The verbs that the MX got, in order."""
    return [line.split(" ")[0].split(":")[0].strip() for _, side, line in mx.state.transcript if side == "C"]
