"""Python's smtplib."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8

import pytest

from tests.integration.peers.contents import BODIES, render
from tests.pipeline.clients.line import SENDER, Line, fresh


@pytest.fixture
def client(line: Line) -> Iterator[smtplib.SMTP]:
    """Connected, nothing said."""
    with smtplib.SMTP(line.host, line.port, "client.example", timeout=30) as connected:
        yield connected


def make_message(recipient: str) -> EmailMessage:
    """Text, HTML and an attachment, with words that are not ASCII."""
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"], message["Subject"] = f"Zoë <{SENDER}>", recipient, "Grüße aus Köln"
    message["Message-ID"] = f"<{recipient}>"
    message.set_content("Grüße\n.\n..\n. und ein Punkt\n")
    message.add_alternative("<p>Grüße</p>\n", subtype="html")
    message.add_attachment(bytes(range(256)) * 20, maintype="application", subtype="octet-stream", filename="Köln.bin")
    for number, part in enumerate(part for part in message.walk() if part.is_multipart()):
        part.set_boundary(f"=-{number}")  # else another one every time that it is written
    return message


def test_bodies(line: Line, client: smtplib.SMTP) -> None:
    sent = {}
    for name, body in BODIES.items():
        recipient, content = fresh(), render(name, body)
        assert client.sendmail(SENDER, [recipient], content, mail_options=["BODY=8BITMIME"]) == {}
        sent[recipient] = content if content.endswith(b"\r\n") else content + b"\r\n"
    arrived = line.check_bytes(sent)
    assert all("with ESMTP id" in one.received for one in arrived.values())


def test_send_message(line: Line, client: smtplib.SMTP) -> None:
    recipient = fresh()
    message = make_message(recipient)
    assert client.send_message(message) == {}
    arrived = line.check_bytes({recipient: message.as_bytes()})[recipient]
    assert (arrived.mail.reverse_path, arrived.row["subject"]) == (SENDER, "Grüße aus Köln")


def test_smtputf8(line: Line, client: smtplib.SMTP) -> None:
    recipient = fresh("ok+jürgen")
    message = make_message(recipient)
    message.replace_header("Message-ID", "<utf8@shop.example>")
    assert client.send_message(message, from_addr="zoë@shop.example") == {}
    arrived = line.check_bytes({recipient: message.as_bytes(policy=SMTPUTF8)})[recipient]
    assert arrived.mail.reverse_path == "zoë@shop.example"
    assert "SMTPUTF8" in arrived.mail.mail_parameters
    assert "with UTF8SMTP id" in arrived.received


def test_several_recipients(line: Line, client: smtplib.SMTP) -> None:
    recipients = [fresh() for _ in range(20)]
    content = render("several", b"to all\r\n")
    assert client.sendmail(SENDER, recipients, content) == {}
    arrived = line.check_bytes(dict.fromkeys(recipients, content))
    assert len({one.row["transaction"] for one in arrived.values()}) == 1


def test_a_refused_recipient_among_good_ones(line: Line, client: smtplib.SMTP) -> None:
    good, content = fresh(), render("partly", b"to one\r\n")
    refused = client.sendmail(SENDER, ["nobody@[300.1.1.1]", good], content)
    assert [code for code, _ in refused.values()] == [553]
    line.check_bytes({good: content})


def test_null_reverse_path(line: Line, client: smtplib.SMTP) -> None:
    recipient, content = fresh(), render("bounce", b"a report\r\n")
    client.sendmail("", [recipient], content)
    assert line.check_bytes({recipient: content})[recipient].mail.reverse_path == ""


def test_five_megabytes(line: Line, client: smtplib.SMTP) -> None:
    recipient = fresh()
    row = bytes(range(33, 127)) + b"\r\n"
    content = render("five-megabytes", row * (5 * 1024 * 1024 // len(row)))
    client.sendmail(SENDER, [recipient], content)
    line.check_bytes({recipient: content})


def test_a_mail_over_the_limit(client: smtplib.SMTP) -> None:
    with pytest.raises(smtplib.SMTPSenderRefused) as refused:
        client.sendmail(SENDER, [fresh()], render("over", b"x" * 998 + b"\r\n") * 21_500)
    assert (refused.value.smtp_code, refused.value.smtp_error.split()[0]) == (552, b"5.3.4")


def test_starttls(line: Line, client: smtplib.SMTP) -> None:
    recipient, content = fresh(), render("starttls", b"sealed\r\n")
    client.starttls(context=line.certificates.client_context())
    client.sendmail(SENDER, [recipient], content)
    assert "with ESMTPS id" in line.check_bytes({recipient: content})[recipient].received


def test_implicit_tls(line: Line) -> None:
    recipient, content = fresh(), render("smtps", b"sealed\r\n")
    context = line.certificates.client_context()
    with smtplib.SMTP_SSL(line.host, line.smtps_port, "client.example", timeout=30, context=context) as client:
        client.sendmail(SENDER, [recipient], content)
    assert "with ESMTPS id" in line.check_bytes({recipient: content})[recipient].received
