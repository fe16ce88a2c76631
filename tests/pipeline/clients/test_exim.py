"""Exim as a client: a router with a smarthost (docs/relaying-from-postfix.md)."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.peers.contents import BODIES, render
from tests.pipeline.clients.line import SENDER, Arrived, Line, fresh
from tests.support.peers.exim import RelayingExim
from tests.support.waiting import wait_until

_SMARTHOST = """
begin routers
smarthost:
  driver = manualroute
  transport = smarthost
  route_list = * {host}::{port} byname
  self = send

begin transports
smarthost:
  driver = smtp
  allow_localhost
  hosts_try_chunking = {chunking}
"""


@pytest.fixture(scope="module", params=["*", ""], ids=["CHUNKING where it is offered", "DATA"])
def exim(request: pytest.FixtureRequest, line: Line, folder: Path) -> Iterator[RelayingExim]:
    """One for all tests of this module."""
    given = _SMARTHOST.format(host=line.host, port=line.port, chunking=request.param)
    with RelayingExim(folder / f"exim{len(request.param)}", given) as relay:
        yield relay


@pytest.fixture
def client(exim: RelayingExim) -> Iterator[smtplib.SMTP]:
    """Connected to Exim."""
    with smtplib.SMTP(exim.host, exim.port, "app.example", timeout=30) as connected:
        yield connected


def check_bytes(line: Line, sent: dict[str, bytes]) -> dict[str, Arrived]:
    """What arrived is what was given to Exim, below its Received field."""
    arrived = line.wait_all(list(sent))
    for recipient, content in sent.items():
        assert arrived[recipient].received.startswith("Received: from exim.example ([127.0.0.1])")
        assert arrived[recipient].below(1) == content
    return arrived


def test_bodies(line: Line, client: smtplib.SMTP) -> None:
    sent = {}
    for name, body in BODIES.items():
        recipient, content = fresh(), render(name, body)
        client.sendmail(SENDER, [recipient], content, mail_options=["BODY=8BITMIME"])
        sent[recipient] = content if content.endswith(b"\r\n") else content + b"\r\n"
    check_bytes(line, sent)


def test_several_recipients(line: Line, client: smtplib.SMTP) -> None:
    recipients, content = [fresh() for _ in range(20)], render("several", b"to all\r\n")
    client.sendmail(SENDER, recipients, content)
    arrived = check_bytes(line, dict.fromkeys(recipients, content))
    assert all("with ESMTPS id" in one.received for one in arrived.values()), "it uses STARTTLS where it is offered"


def test_smtputf8(line: Line, client: smtplib.SMTP) -> None:
    recipient, content = fresh("ok+jürgen"), render("smtputf8", "Grüße\r\n".encode())
    client.ehlo_or_helo_if_needed()
    client.command_encoding = "utf-8"
    client.sendmail("zoë@shop.example", [recipient], content, mail_options=["BODY=8BITMIME", "SMTPUTF8"])
    mail = check_bytes(line, {recipient: content})[recipient].mail
    assert mail.reverse_path == "zoë@shop.example"


def test_dsn(line: Line, client: smtplib.SMTP) -> None:
    recipient, content = fresh(), render("dsn", b"x\r\n")
    wanted = ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;someone@old.example"]
    client.sendmail(SENDER, [recipient], content, mail_options=["RET=HDRS", "ENVID=order+2B4711"], rcpt_options=wanted)
    mail = check_bytes(line, {recipient: content})[recipient].mail
    assert (mail.mail_parameters["RET"], mail.mail_parameters["ENVID"]) == ("HDRS", "order+2B4711")
    assert mail.rcpt_parameters == {"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;someone@old.example"}


def test_two_megabytes(line: Line, exim: RelayingExim, client: smtplib.SMTP) -> None:
    recipient, content = fresh(), render("large", (b"x" * 70 + b"\r\n") * 30_000)
    client.sendmail(SENDER, [recipient], content)
    check_bytes(line, {recipient: content})
    [told] = wait_until(lambda: [row for row in exim.log.splitlines() if f"=> {recipient} " in row], within=10)
    assert (" K " in told) == ("hosts_try_chunking = *" in exim.given), "K: it went by BDAT"
