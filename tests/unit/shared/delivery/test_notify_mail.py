"""The mail that tells a sender what became of a mail."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.delivery.notify import derive_ident
from shared.delivery.outcome import refuse
from shared.delivery.settings import RetrySettings
from shared.mail.dsn_report import Action
from shared.wire.instructions import InvalidProperty
from shared.wire.message import PAYLOAD, Message, parse_inline_content, parse_message
from tests.unit.shared.delivery.messages import KEYS, NOW, body, make_message
from tests.unit.shared.delivery.notices import ALL, CONTENT, EXPIRED, REFUSED, RETRY, SENT, decide, outcome_of, render, tried
from tests.unit.shared.mail.reports import told


def test_the_mail_and_its_record() -> None:
    message = make_message(dsn={"envid": "q7"}, priority=7, smarthost={"hostname": "x"}, tags=["a"], queues={"failure": "mine"})
    mail, record = render(message, outcome_of(REFUSED))
    assert (mail.key, mail.otherwise, mail.is_optional, mail.is_ours, mail.record) == ("dsn", None, False, True, False)
    assert (record.key, record.headers, record.is_optional) == ("record", {"event": "accepted"}, False)
    document = body(mail)
    mime = document["mime"].encode()
    assert set(document) == {
        "id", "transaction", "recipients-total", "channel", "seen", "envelope", "return-path", "recipient", "strategy", "size", "sha256",
        "extracted", "mime",
    }  # fmt: skip
    assert document["id"] == document["transaction"] == derive_ident(message.id, Action.FAILED)
    assert (document["recipient"], document["envelope"], document["strategy"]) == ("r@a.example", "", "smtp")
    assert (document["seen"], document["size"]) == ("2026-03-01 12:00:00", len(mime))
    assert body(record) == {name: value for name, value in document.items() if name not in PAYLOAD}
    assert told(mime) == ([], [b"to@b.example"])
    assert b"Original-Envelope-Id: q7\r\n" in mime


def test_our_senders_take_it_as_it_is() -> None:
    """And a notification that fails itself makes nothing."""
    mail, _ = render(make_message(), outcome_of(REFUSED))
    message = parse_message(mail.body, encoding=None, is_ours=True, now=NOW)
    assert (message.id, message.reverse_path, message.attempt) == (derive_ident(make_message().id, Action.FAILED), "", 1)
    for verdict in (SENT, REFUSED, EXPIRED, RETRY):
        settings = RetrySettings(dsn_notify=ALL)
        late = message.with_properties({"results": tried(300)})
        assert decide(late, outcome_of(verdict, dsn=False), settings=settings) is None
        loud = late.with_properties({"dsn": {"notify": ALL}})
        assert decide(loud, outcome_of(verdict, dsn=False)) is None


def test_the_same_again() -> None:
    first, again = (render(make_message(), outcome_of(REFUSED, at=NOW.replace(microsecond=n))) for n in (0, 999_999))
    assert first == again


def test_one_id_per_recipient_and_action() -> None:
    idents = {derive_ident(ident, action) for ident in ("a", "b") for action in Action}
    assert len(idents) == 6
    assert derive_ident("a", Action.FAILED) == derive_ident("a", Action.FAILED)


def test_for_an_application_there_is_no_record() -> None:
    [published] = render(make_message(queues={"dsn": "mine"}), outcome_of(REFUSED))
    assert (published.key, published.otherwise, published.is_optional) == ("mine", "dsn", False)


@pytest.mark.parametrize(
    ("security", "expected"), [("required", "required"), ("verified", "verified"), ("optional", None), ([1], None), (..., None)]
)
def test_what_had_to_be_encrypted_comes_back_encrypted(security: Any, expected: str | None) -> None:
    mail, record = render(make_message(security=security), outcome_of(REFUSED))
    assert body(mail).get("security") == body(record).get("security") == expected


def test_the_last_answer_is_told_when_time_ran_out() -> None:
    last = {"attempt": 1, "code": 451, "description": "4.7.1 Greylisted\r\nfor ever"}
    mail, _ = render(make_message(results=[last]), outcome_of(EXPIRED))
    text = " ".join(body(mail)["mime"].split())
    assert "Diagnostic-Code: x-mailwarren; Delivery time expired; the last answer was: 451 4.7.1 Greylisted for ever" in text
    assert body(render(make_message(results=[{}]), outcome_of(EXPIRED))[0])["mime"]


def test_a_delay_says_until_when() -> None:
    message = make_message(dsn={"notify": "DELAY"}, results=tried(300))
    until = NOW + timedelta(days=1)
    mail, _ = render(message, outcome_of(RETRY), retry_until=until)
    assert "Will-Retry-Until: Mon, 02 Mar 2026 12:00:00 +0000\r\n" in body(mail)["mime"]
    failed, _ = render(message.with_properties({"dsn": None}), outcome_of(REFUSED), retry_until=until)
    assert "Will-Retry-Until" not in body(failed)["mime"]


@pytest.mark.parametrize("content", [None, CONTENT, b"Subject: gr\xfcn\r\n\r\n\xff\r\n"])
def test_whatever_is_left_of_the_content(content: bytes | None) -> None:
    for ret in ("FULL", "HDRS"):
        mail, _ = render(make_message(dsn={"ret": ret}), outcome_of(REFUSED), content=content)
        mime = parse_inline_content(Message(body(mail)))
        assert mime is not None
        assert told(mime) == ([], [b"to@b.example"])


def test_octets_travel_as_base64() -> None:
    content = b"Subject: x\r\n\r\n\xff\r\n"
    mail, _ = render(make_message(dsn={"ret": "FULL"}), outcome_of(REFUSED), content=content)
    assert content in base64.b64decode(body(mail)["mime64"])


def test_gzip() -> None:
    packed = replace(KEYS, encoding="gzip")
    mail, record = render(make_message(), outcome_of(REFUSED), keys=packed)
    assert (mail.encoding, record.encoding) == ("gzip", "gzip")
    assert parse_message(mail.body, encoding="gzip", is_ours=True, now=NOW).recipient == "r@a.example"


@pytest.mark.parametrize("recipient", [None, 7, "", "nobody", "a\r\nAction: delivered", "grün@b.example"])
def test_whatever_the_recipient_is(recipient: Any) -> None:
    message = make_message(recipient=recipient)
    outcome = refuse(message, InvalidProperty("recipient: impossible"), keys=KEYS, now=NOW)
    mail, _ = render(message, outcome)
    assert body(mail)["mime"].count("\r\nAction: failed\r\n") == 1
    assert "\r\nAction: delivered" not in body(mail)["mime"]
