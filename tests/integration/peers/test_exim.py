"""Exim as the MX and as a smarthost with AUTH."""

from __future__ import annotations

import base64
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.smtp_sender.pool import Limits
from tests.integration.peers.contents import BODIES, render
from tests.integration.peers.ending import desk_towards, ended, told
from tests.support.certificates import Certificates
from tests.support.peers.exim import MECHANISMS, PASSWORD, SIZE_LIMIT, USER, Exim

SENT = ("message", "accepted", "sent")
REFUSALS = [
    ("unknown", "", ("rcptto", "error", "failed"), 550, "5.1.1"),
    ("grey", "", ("rcptto", "error", "retry"), 451, "4.7.1"),
    ("good", "refuse-me", ("message", "error", "failed"), 554, "5.7.1"),
]
LAST_STATES = {"PLAIN": "authplain", "LOGIN": "authpassword", "CRAM-MD5": "authresponse"}


@pytest.fixture(scope="module")
def exim(folder: Path, certificates: Certificates) -> Iterator[Exim]:
    """One for all tests of this module."""
    with Exim(folder / "exim", certificates) as peer:
        yield peer


def test_what_it_offers(exim: Exim) -> None:
    with smtplib.SMTP(exim.host, exim.port, timeout=10) as client:
        client.ehlo("test.example")
        assert {"pipelining", "size", "starttls", "8bitmime", "dsn", "smtputf8", "chunking"} <= set(client.esmtp_features)


async def test_verified_tls(exim: Exim, certificates: Certificates) -> None:
    async with desk_towards(exim, ca=certificates.ca) as one:
        finished = await one.attempt("good@x.example", security="verified", mime=render("tls", b"x").decode())
        assert ended(finished) == SENT
        result = told(finished)
        assert (result["mta"], result["dsn"], result["certificate"]["verified"]) == ("exim.example", True, True)
    [mail] = await exim.mail.wait_for("X-Token: tls.")
    assert (mail.field("Return-path"), mail.field("Envelope-to")) == ("<r@a.example>", "good@x.example")
    assert "with esmtps (TLS1.3)" in mail.field("Received")


@pytest.mark.parametrize("name", BODIES)
async def test_bytes_arrive_as_they_are(exim: Exim, name: str) -> None:
    sent = render(name, BODIES[name])
    async with desk_towards(exim) as one:
        finished = await one.attempt("good@x.example", mime=None, mime64=base64.b64encode(sent).decode())
        assert ended(finished) == SENT
    [mail] = await exim.mail.wait_for(f"X-Token: {name}.")
    assert mail.content == (sent if sent.endswith(b"\r\n") else sent + b"\r\n")


async def test_a_null_reverse_path_and_an_utf8_address(exim: Exim) -> None:
    async with desk_towards(exim) as one:
        assert ended(await one.attempt("jürgen@x.example", envelope="", mime=render("utf8-address", b"").decode())) == SENT
    [mail] = await exim.mail.wait_for("X-Token: utf8-address.")
    assert (mail.field("Return-path"), mail.field("Envelope-to")) == ("<>", "jürgen@x.example")
    assert "with utf8esmtps" in mail.field("Received")


async def test_over_its_size(exim: Exim) -> None:
    async with desk_towards(exim) as one:
        finished = await one.attempt("good@x.example", mime="Subject: x\r\n\r\n" + "\r\n" * SIZE_LIMIT)
        assert ended(finished) == ("mailfrom", "error", "failed")
        assert (told(finished)["code"], told(finished)["status"]) == (552, "5.3.4")


@pytest.mark.parametrize(("local", "subject", "ending", "code", "status"), REFUSALS)
async def test_refusals(exim: Exim, local: str, subject: str, ending: tuple[str, str, str], code: int, status: str) -> None:
    async with desk_towards(exim) as one:
        finished = await one.attempt(f"{local}@x.example", mime=f"Subject: {subject}\r\n\r\nx\r\n")
        assert ended(finished) == ending
        assert (told(finished)["code"], told(finished)["status"]) == (code, status)


async def test_the_right_one_is_refused_on_one_session(exim: Exim) -> None:
    """Exim ends a session whose client speaks out of turn ("synchronization error")."""
    order = ["good", "unknown", "good", "grey", "good", "grey", "unknown", "good"]
    endings = {local: ending for local, subject, ending, _, _ in REFUSALS if not subject}
    async with desk_towards(exim, limits=Limits(1, 100, 5.0)) as one:
        for number, local in enumerate(order):
            finished = await one.attempt(f"{local}@x.example", mime=render(f"series-{number}", b"x").decode())
            assert ended(finished) == endings.get(local, SENT), number
            assert told(finished)["messages"] == number + 1
    good = [number for number, local in enumerate(order) if local == "good"]
    for number in good:
        assert len(await exim.mail.wait_for(f"X-Token: series-{number}.")) == 1
    assert len(exim.mail.find("X-Token: series-")) == len(good)


async def test_it_notifies_as_asked(exim: Exim) -> None:
    """DSN: NOTIFY, ENVID, ORCPT and RET get there, for Exim's report of success says them again."""
    dsn = {"notify": "SUCCESS", "ret": "HDRS", "envid": "exim-1", "orcpt": "rfc822;first@x.example"}
    async with desk_towards(exim) as one:
        assert ended(await one.attempt("good@x.example", dsn=dsn, mime=render("notified", b"secret body").decode())) == SENT
    [report] = await exim.mail.wait_for("Original-Envelope-ID: exim-1")
    assert (report.field("Return-path"), report.field("Envelope-to")) == ("<>", "r@a.example")
    assert b"Original-Recipient: rfc822;first@x.example\r\n" in report.content
    assert b"Action: delivered\r\n" in report.content
    assert b"secret body" not in report.content


# --- as a smarthost


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_auth(exim: Exim, certificates: Certificates, mechanism: str) -> None:
    login = {"smarthost": exim.host, "smarthost_port": exim.ports[mechanism], "smarthost_username": USER}
    async with desk_towards(exim, ca=certificates.ca, **login, smarthost_password=PASSWORD) as one:
        finished = await one.attempt("good@far.example", mime=render(f"auth-{mechanism}", b"x").decode())
        assert ended(finished) == SENT
        assert told(finished)["authentication"] == mechanism
    [mail] = await exim.mail.wait_for(f"X-Token: auth-{mechanism}.")
    assert "with esmtpsa (TLS1.3)" in mail.field("Received")


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_wrong_password_is_tried_again_later(exim: Exim, mechanism: str) -> None:
    login = {"smarthost": exim.host, "smarthost_port": exim.ports[mechanism], "smarthost_username": USER}
    async with desk_towards(exim, **login, smarthost_password="wrong") as one:
        finished = await one.attempt("good@far.example")
        assert ended(finished) == (LAST_STATES[mechanism], "error", "retry")
        assert told(finished)["code"] == 535
        assert "wrong" not in str(told(finished))


async def test_cram_md5_in_clear(exim: Exim) -> None:
    login = {"smarthost": exim.host, "smarthost_port": exim.ports["CRAM-MD5"], "smarthost_username": USER}
    given = login | {"smarthost_password": PASSWORD, "smtp_security": "optional"}
    async with desk_towards(exim, **given) as one:
        assert ended(await one.attempt("good@far.example")) == ("authplain", "invalid", "retry")
    async with desk_towards(exim, **given, smtp_auth_clear=True) as one:
        assert ended(await one.attempt("good@far.example", mime=render("in-clear", b"").decode())) == SENT
    [mail] = await exim.mail.wait_for("X-Token: in-clear.")
    assert "with esmtpa " in mail.field("Received")


async def test_a_smarthost_that_wants_a_login(exim: Exim) -> None:
    """530 concerns us, not the mail."""
    async with desk_towards(exim, smarthost=exim.host, smarthost_port=exim.ports["PLAIN"]) as one:
        finished = await one.attempt("good@far.example")
        assert ended(finished) == ("rcptto", "error", "retry")
        assert (told(finished)["code"], told(finished)["status"]) == (530, "5.7.0")


async def test_a_smarthost_that_the_message_names(exim: Exim) -> None:
    named = {"hostname": exim.host, "port": exim.ports["LOGIN"], "username": USER, "password": PASSWORD}
    async with desk_towards(exim) as one:
        finished = await one.attempt("good@far.example", smarthost=named, mime=render("named", b"").decode())
        assert ended(finished) == SENT
        assert told(finished)["authentication"] == "LOGIN"
