"""Notifications over real connections: what a peer with DSN is told, and a report on its way to the sender."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.smtp_sender.session import Envelope
from shared.amqp.notifying import Notifying
from shared.delivery.outcome import Keys, conclude
from shared.delivery.schedule import decide_schedule
from shared.delivery.settings import RetrySettings
from shared.mail.dsn import parse_dsn_request
from shared.wire.instructions import parse_instructions
from shared.wire.message import Message, parse_inline_content
from shared.wire.result import Result, State
from tests.integration.smtp_sender.peers import CONTENT, envelope, opened, scripted, target
from tests.integration.smtp_sender.sending import Desk, desk
from tests.support.mx import MxOptions
from tests.unit.shared.mail.reports import told

EVERYTHING = {"notify": ["SUCCESS", "DELAY"], "ret": "FULL", "orcpt": "rfc822;first+list@x.example", "envid": "q 7=x"}
PIPELINING = pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "one-by-one"])


def asking(dsn: Any, one: Envelope | None = None) -> Envelope:
    """A transaction with this ``dsn``."""
    return replace(one or envelope(), dsn=parse_dsn_request(dsn))


@PIPELINING
@pytest.mark.parametrize(
    ("dsn", "reverse_path", "mail", "rcpt"),
    [
        (
            EVERYTHING,
            "r@a.example",
            {"RET": "FULL", "ENVID": "q+207+3Dx"},
            {"NOTIFY": "SUCCESS,DELAY", "ORCPT": "rfc822;first+2Blist@x.example"},
        ),
        ({"notify": "NEVER"}, "r@a.example", {}, {"NOTIFY": "NEVER"}),
        ({"orcpt": "utf-8;grün@x.example"}, "r@a.example", {}, {"ORCPT": r"utf-8;gr\x{FC}n@x.example"}),
        (None, "r@a.example", {}, {}),
        (EVERYTHING, "", {"ENVID": "q+207+3Dx"}, {"ORCPT": "rfc822;first+2Blist@x.example"}),
    ],
)
async def test_a_peer_with_dsn_is_told(
    tmp_path: Path, dsn: Any, reverse_path: str, mail: dict[str, str], rcpt: dict[str, str], pipelining: bool
) -> None:
    async with scripted(tmp_path, options=MxOptions(pipelining=pipelining, transcript=True)) as mx:
        session = await opened(target(mx))
        ending = await session.transact(asking(dsn, envelope(reverse_path=reverse_path)), CONTENT)
        assert (ending.state, ending.result) == (State.MESSAGE, Result.ACCEPTED)
        await session.quit()
        [stored] = mx.ledger.mails()
        assert stored.mail_parameters == {"SIZE": str(len(CONTENT))} | mail
        assert stored.rcpt_parameters == rcpt


@PIPELINING
async def test_a_peer_without_dsn_is_not(tmp_path: Path, pipelining: bool) -> None:
    """It would answer 555."""
    async with scripted(tmp_path, options=MxOptions(pipelining=pipelining, dsn=False)) as mx:
        session = await opened(target(mx))
        ending = await session.transact(asking(EVERYTHING), CONTENT)
        assert (ending.state, ending.result) == (State.MESSAGE, Result.ACCEPTED)
        await session.quit()
        [stored] = mx.ledger.mails()
        assert (stored.mail_parameters, stored.rcpt_parameters) == ({"SIZE": str(len(CONTENT))}, {})


# --- a report on its way


async def inline(message: Message) -> bytes | None:
    """The content, which rides in the message."""
    return parse_inline_content(message)


async def attempt(one: Desk, document: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    """One attempt for a message, and the notifications that follow from it."""
    message = Message(document)
    given = {name.replace("-", "_"): value for name, value in document.items() if name != "recipient"}
    finished = await one.attempt(document["recipient"], **given)
    retrying, keys = RetrySettings(**settings), Keys()
    instructions = parse_instructions(message)
    schedule = decide_schedule(message, instructions, retrying)
    outcome = conclude(
        message, finished.attempt, instructions=instructions, schedule=schedule, keys=keys, now=finished.attempt.time
    )
    notifying = Notifying(inline, "me.example", retrying, keys)
    step = await notifying.add(message, outcome, extracted=finished.extracted, retry_until=schedule.deadline)
    return [orjson.loads(published.body) for published in step.publications if published.key == "dsn"]


def mail_to(recipient: str, reverse_path: str = "ok+sender@x.example", **more: Any) -> dict[str, Any]:
    """A message of ours that came in by SMTP."""
    mime = "From: a@x.example\r\nSubject: offer\r\nMessage-ID: <1@x.example>\r\n\r\nhello\r\n.\r\n"
    common = {"id": "id-1", "seen": "2126-01-01 00:00:00", "channel": "smtp"}
    return common | {"envelope": reverse_path, "mime": mime, "recipient": recipient} | more


async def test_a_failure_comes_back_to_the_sender(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        [report] = await attempt(one, mail_to("reject-550@x.example"))
        assert await attempt(one, report) == []
        [stored] = mx.ledger.mails()
        assert (stored.reverse_path, stored.recipient) == ("", "ok+sender@x.example")
        assert stored.content == report["mime"].encode()
        assert told(stored.content) == ([], [b"reject-550@x.example"])
        read = message_from_bytes(stored.content, policy=policy.default)
        assert (read["Auto-Submitted"], read["In-Reply-To"]) == ("auto-replied", "<1@x.example>")
        text = stored.content.decode()
        assert "Remote-MTA: dns; mx.example\r\n" in text
        assert "Diagnostic-Code: smtp; 550 5.1.1 No such user here\r\n" in text


async def test_a_report_that_fails_itself_makes_nothing(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        [report] = await attempt(one, mail_to("reject-550@x.example", "reject-550+sender@x.example"))
        assert await attempt(one, report, dsn_notify="SUCCESS,FAILURE,DELAY") == []
        assert not mx.ledger.mails()


@pytest.mark.parametrize("has_dsn", [True, False])
async def test_success_is_told_as_handed_on(tmp_path: Path, has_dsn: bool) -> None:
    async with scripted(tmp_path, options=MxOptions(dsn=has_dsn)) as mx, desk(mx=mx) as one:
        [report] = await attempt(one, mail_to("ok@x.example"), dsn_notify="SUCCESS")
        assert "\r\nAction: relayed\r\nStatus: 2.0.0\r\nRemote-MTA: dns; mx.example\r\n" in report["mime"]


async def test_an_international_sender_gets_it_over_smtputf8(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        [report] = await attempt(one, mail_to("reject-550@x.example", "ok+jürgen@x.example"))
        assert await attempt(one, report) == []
        [stored] = mx.ledger.mails()
        assert stored.recipient == "ok+jürgen@x.example"
        assert "SMTPUTF8" in stored.mail_parameters
        assert b"Content-Type: message/global-delivery-status\r\n" in stored.content
        assert stored.content == report["mime"].encode()
