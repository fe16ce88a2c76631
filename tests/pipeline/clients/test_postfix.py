"""Postfix as a client: ``relayhost`` (docs/relaying-from-postfix.md)."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.peers.contents import BODIES, render
from tests.pipeline.clients.line import SENDER, Arrived, Line, fresh
from tests.support.peers.postfix import RelayingPostfix
from tests.support.service import ServiceProcess
from tests.support.waiting import wait_until

ASKED = ["RET=HDRS", "ENVID=order+2B4711"]
WANTED = ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;someone@old.example"]


@pytest.fixture(scope="module")
def postfix(line: Line, folder: Path) -> Iterator[RelayingPostfix]:
    """One for all tests of this module; it keeps its connections for the next mail."""
    next_hop = f"[{line.host}]:{line.port}"
    given = {
        "relayhost": next_hop,
        "smtp_connection_cache_destinations": next_hop,
        # Two seconds, the default, are over before a busy host has the next mail ready.
        "smtp_connection_cache_time_limit": "20s",
        "smtp_destination_concurrency_limit": "2",
    }
    with RelayingPostfix(folder / "postfix", given) as relay:
        yield relay


@pytest.fixture
def client(postfix: RelayingPostfix) -> Iterator[smtplib.SMTP]:
    """Connected to Postfix."""
    with smtplib.SMTP(postfix.host, postfix.port, "app.example", timeout=30) as connected:
        yield connected


def check_bytes(line: Line, sent: dict[str, bytes]) -> dict[str, Arrived]:
    """What arrived is what was given to Postfix, below its Received field."""
    arrived = line.wait_all(list(sent))
    for recipient, content in sent.items():
        assert arrived[recipient].received.startswith("Received: from postfix.example ([127.0.0.1])")
        assert arrived[recipient].below(1) == content
    return arrived


def commands(postfix: RelayingPostfix, recipient: str) -> list[str]:
    """What Postfix and we said in the transaction of a recipient, ``> RCPT TO:<…>``, by its log."""
    said = re.findall(r"smtp\[(\d+)\]: ([<>]) \S+: (.*)", postfix.log)
    number = next(number for number, _, text in said if f"RCPT TO:<{recipient}>" in text)
    own = [f"{side} {text}" for other, side, text in said if other == number]
    at = next(at for at, text in enumerate(own) if f"RCPT TO:<{recipient}>" in text)
    begin = max(index for index in range(at) if own[index].startswith("> MAIL FROM"))
    return own[begin:]


def test_bodies(line: Line, client: smtplib.SMTP) -> None:
    sent = {}
    for name, body in BODIES.items():
        recipient, content = fresh(), render(name, body)
        client.sendmail(SENDER, [recipient], content, mail_options=["BODY=8BITMIME"])
        sent[recipient] = content if content.endswith(b"\r\n") else content + b"\r\n"
    check_bytes(line, sent)


def test_several_mails_over_one_connection(line: Line, client: smtplib.SMTP) -> None:
    recipients, content = [fresh() for _ in range(30)], render("many", b"one of many\r\n")
    line.take_results()
    for recipient in recipients:
        client.sendmail(SENDER, [recipient], content)
    check_bytes(line, dict.fromkeys(recipients, content))
    results = line.take_results()
    connections = {results[recipient]["connection"]["remote-port"] for recipient in recipients}
    assert len(connections) < len(recipients) // 2, "connections are used again"


def test_pipelining(line: Line, postfix: RelayingPostfix, client: smtplib.SMTP) -> None:
    recipients, content = [fresh() for _ in range(5)], render("pipelining", b"x\r\n")
    client.sendmail(SENDER, recipients, content)
    arrived = check_bytes(line, dict.fromkeys(recipients, content))
    assert len({one.row["transaction"] for one in arrived.values()}) == 1
    group = commands(postfix, recipients[0])[: len(recipients) + 2]
    assert [text.split(":")[0] for text in group] == ["> MAIL FROM", *["> RCPT TO"] * 5, "> DATA"]


def test_eight_bit(line: Line, postfix: RelayingPostfix, client: smtplib.SMTP) -> None:
    recipient, content = fresh(), render("8bit", "Grüße\r\n".encode())
    client.sendmail(SENDER, [recipient], content, mail_options=["BODY=8BITMIME"])
    check_bytes(line, {recipient: content})
    assert "BODY=8BITMIME" in commands(postfix, recipient)[0]


def test_smtputf8(line: Line, client: smtplib.SMTP) -> None:
    recipient, content = fresh("ok+jürgen"), render("smtputf8", "Grüße\r\n".encode())
    client.ehlo_or_helo_if_needed()
    client.command_encoding = "utf-8"
    client.sendmail("zoë@shop.example", [recipient], content, mail_options=["BODY=8BITMIME", "SMTPUTF8"])
    mail = check_bytes(line, {recipient: content})[recipient].mail
    assert mail.reverse_path == "zoë@shop.example"
    assert "SMTPUTF8" in mail.mail_parameters


def test_dsn(line: Line, postfix: RelayingPostfix, client: smtplib.SMTP) -> None:
    recipient, content = fresh(), render("dsn", b"x\r\n")
    client.sendmail(SENDER, [recipient], content, mail_options=ASKED, rcpt_options=WANTED)
    mail = check_bytes(line, {recipient: content})[recipient].mail
    assert (mail.mail_parameters["RET"], mail.mail_parameters["ENVID"]) == ("HDRS", "order+2B4711")
    assert mail.rcpt_parameters == {"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;someone@old.example"}
    assert "ENVID=order+2B4711" in commands(postfix, recipient)[0]


def test_null_reverse_path(line: Line, client: smtplib.SMTP) -> None:
    recipient, content = fresh(), render("bounce", b"a report\r\n")
    client.sendmail("", [recipient], content)
    assert check_bytes(line, {recipient: content})[recipient].mail.reverse_path == ""


def test_refused_recipient(line: Line, postfix: RelayingPostfix, client: smtplib.SMTP) -> None:
    """Postfix bounces what we refuse, and delivers to the others."""
    good, refused, content = fresh(), f"{'x' * 65}@good.example", render("partly", b"x\r\n")
    client.sendmail(SENDER, [good, refused], content)
    check_bytes(line, {good: content})
    wait_until(lambda: re.search(rf"to=<{re.escape(refused)}>.*dsn=5\.1\.3.*status=bounced", postfix.log), within=20)


def test_we_are_down(line: Line, postfix: RelayingPostfix, client: smtplib.SMTP) -> None:
    """Postfix keeps the mail, and hands it over when we are back."""
    recipients, content = [fresh() for _ in range(3)], render("down", b"later\r\n")
    line.stack.stop("smtp-inbox")
    try:
        for recipient in recipients:
            client.sendmail(SENDER, [recipient], content)
        wait_until(lambda: postfix.count_deferred() >= 3, within=20)
        assert "Connection refused" in postfix.log
    finally:
        line.stack.start("smtp-inbox")
    postfix.flush()
    check_bytes(line, dict.fromkeys(recipients, content))


def test_the_broker_is_down(line: Line, postfix: RelayingPostfix, client: smtplib.SMTP) -> None:
    """A 451 is no verdict about the mail either."""
    recipient, content = fresh(), render("451", b"later\r\n")
    nobody = {"RABBITMQ_ADDRESS": "amqp://guest:guest@127.0.0.1:1/", "INBOUND_SMTP_LISTEN": f"relay://{line.address}"}
    line.stack.stop("smtp-inbox")
    try:
        with ServiceProcess("smtp-inbox", {"STORAGE_URL": f"dir://{postfix.folder}/payloads", **nobody}, ready=False):
            client.sendmail(SENDER, [recipient], content)
            wait_until(
                lambda: re.search(rf"to=<{re.escape(recipient)}>.*status=deferred.* said: 451 4\.3\.0", postfix.log), within=20
            )
    finally:
        line.stack.start("smtp-inbox")
    postfix.flush()
    check_bytes(line, {recipient: content})
