"""Clients that log in: the submission listener, with the settings that docs/relaying-from-postfix.md shows."""

from __future__ import annotations

import smtplib
import subprocess
from pathlib import Path

import pytest

from tests.integration.peers.contents import render
from tests.pipeline.clients.line import PASSWORD, SENDER, USER, Arrived, Line, fresh, run_client
from tests.pipeline.clients.test_nodemailer import compose, content_of, send
from tests.pipeline.clients.test_swaks import read_content, swaks
from tests.support.pages import find_block, read_blocks, run_block
from tests.support.peers.exim import RelayingExim
from tests.support.peers.postfix import RelayingPostfix
from tests.support.waiting import wait_until

PAGE = "relaying-from-postfix.md"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
EX_TEMPFAIL, EX_NOPERM = 75, 77
"""sysexits.h"""


def check_login(line: Line, recipient: str, content: bytes) -> Arrived:
    """It arrived, and who sent it is told."""
    line.take_results()
    arrived = line.check_bytes({recipient: content})[recipient]
    assert "with ESMTPSA id" in arrived.received
    return arrived


def test_smtplib(line: Line) -> None:
    recipient, content = fresh(), render("login", b"x\r\n")
    with smtplib.SMTP(line.host, line.submission_port, "client.example", timeout=30) as client:
        with pytest.raises(smtplib.SMTPSenderRefused, match=r"5\.7\.0"):
            client.sendmail(SENDER, [recipient], content)
        client.starttls(context=line.certificates.client_context())
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(USER, "wrong")
        client.login(USER, PASSWORD)
        client.sendmail(SENDER, [recipient], content)
    check_login(line, recipient, content)


def test_the_result_names_the_user(line: Line) -> None:
    recipient = fresh()
    line.take_results()
    swaks(line, recipient, "--port", str(line.submission_port), "--tls", "--auth-user", USER, "--auth-password", PASSWORD)
    line.wait_for(recipient)
    connection = line.take_results()[recipient]["connection"]
    assert (connection["user"], connection["secure"]) == (USER, True)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks(line: Line, mechanism: str) -> None:
    recipient = fresh()
    login = ("--auth", mechanism, "--auth-user", USER, "--auth-password", PASSWORD)
    said = swaks(line, recipient, "--port", str(line.submission_port), "--tls", *login)
    check_login(line, recipient, read_content(said))


@pytest.mark.parametrize("is_implicit", [False, True], ids=["STARTTLS", "TLS from the first octet"])
def test_nodemailer(line: Line, tmp_path: Path, *, is_implicit: bool) -> None:
    recipient = fresh()
    where = {"port": line.smtps_port, "secure": True} if is_implicit else {"port": line.submission_port, "requireTLS": True}
    [told] = send(line, tmp_path, [compose(recipient)], auth={"user": USER, "pass": PASSWORD}, **where)
    check_login(line, recipient, content_of(told))


def test_nodemailer_with_a_wrong_password(line: Line, tmp_path: Path) -> None:
    [told] = send(line, tmp_path, [compose(fresh())], port=line.submission_port, auth={"user": USER, "pass": "wrong"})
    assert (told["error"]["code"], told["error"]["responseCode"]) == ("EAUTH", 535)


def test_curl(line: Line, tmp_path: Path) -> None:
    recipient, content = fresh(), render("login", b"x\r\n")
    (tmp_path / "mail").write_bytes(content)
    for mechanism in ("PLAIN", "LOGIN"):
        login = ("--ssl-reqd", "--cacert", line.ca, "--user", f"{USER}:{PASSWORD}", "--login-options", f"AUTH={mechanism}")
        envelope = ("--mail-from", SENDER, "--mail-rcpt", recipient, "--upload-file", str(tmp_path / "mail"))
        run_client(["curl", "-sS", *login, *envelope, f"smtp://{line.host}:{line.submission_port}/client.example"])
        check_login(line, recipient, content)
        recipient = fresh()


def test_msmtp(line: Line, tmp_path: Path) -> None:
    recipient, content = fresh(), render("login", b"x\r\n")
    configuration = tmp_path / "msmtprc"
    places = {"mail.example": "localhost", "587": str(line.submission_port), AUTHORITIES: line.ca}
    configuration.write_text(find_block(PAGE, "account default").having(places) + "set_date_header off\nset_msgid_header off\n")
    configuration.chmod(0o600)
    run_client(["msmtp", "-C", str(configuration), "--", recipient], stdin=content)
    check_login(line, recipient, content)
    configuration.write_text(configuration.read_text().replace(PASSWORD, "wrong"))
    said = run_client(["msmtp", "-C", str(configuration), "--", recipient], stdin=content, exits=EX_NOPERM)
    assert "535 5.7.8" in said


def test_postfix(line: Line, folder: Path) -> None:
    password = folder / "sasl_passwd"
    next_hop = f"[localhost]:{line.submission_port}"
    password.write_text(find_block(PAGE, "[mail.example]").having({"[mail.example]:587": next_hop}))
    places = {"[mail.example]:587": next_hop, "/etc/postfix/sasl_passwd": str(password), AUTHORITIES: line.ca}
    settings = find_block(PAGE, "relayhost = [mail.example]").having(places)
    given = dict(row.split(" = ", 1) for row in settings.splitlines())
    recipient, content = fresh(), render("login", b"x\r\n")
    with RelayingPostfix(folder / "postfix-login", given) as postfix:
        with smtplib.SMTP(postfix.host, postfix.port, "app.example", timeout=30) as client:
            client.sendmail(SENDER, [recipient], content)
        arrived = line.wait_for(recipient)
        assert "with ESMTPSA id" in arrived.received
        assert arrived.below(1) == content
        password.write_text(password.read_text().replace(PASSWORD, "wrong"))
    # Another instance, because one that is connected is let in.
    with RelayingPostfix(folder / "postfix-wrong", given) as postfix:
        with smtplib.SMTP(postfix.host, postfix.port, "app.example", timeout=30) as client:
            client.sendmail(SENDER, [recipient], content)
        wait_until(lambda: "status=deferred (SASL authentication failed" in postfix.log, within=20)


def test_exim(line: Line, folder: Path) -> None:
    places = {
        "  domains = ! +local_domains\n": "",
        "mail.example::587": f"localhost::{line.submission_port}",
        AUTHORITIES: line.ca,
    }
    ours = {"begin transports": "  self = send\n\nbegin transports", "  driver = smtp\n": "  driver = smtp\n  allow_localhost\n"}
    given = find_block(PAGE, "begin routers").having(places | ours)
    recipient, content = fresh(), render("login", b"x\r\n")
    with RelayingExim(folder / "exim-login", given) as exim:
        with smtplib.SMTP(exim.host, exim.port, "app.example", timeout=30) as client:
            client.sendmail(SENDER, [recipient], content)
        arrived = line.wait_for(recipient)
    assert "with ESMTPSA id" in arrived.received
    assert arrived.below(1) == content


def test_commands_of_the_page(line: Line, tmp_path: Path) -> None:
    """The page sends two mails to the same recipient."""
    env = {**line.stack.env, "CA": line.ca, "SUBMISSION_ADDRESS": f"localhost:{line.submission_port}"}
    blocks = read_blocks(PAGE, "sh")
    before = line.ledger.count()
    said = [run_block(block, tmp_path, env) for block in blocks]
    assert "shop" in said[0]
    wait_until(lambda: line.ledger.count() == before + 2, within=30)


def test_local_relayhost_of_the_page(line: Line, folder: Path) -> None:
    settings = find_block(PAGE, "relayhost = [127.0.0.1]").having({"[127.0.0.1]:1587": f"[127.0.0.1]:{line.port}"})
    name, _, value = settings.strip().partition(" = ")
    recipient = fresh()
    # Postfix completes what programs on its host give it: here nothing is missing.
    content = b"Date: Sun, 1 Mar 2026 12:00:00 +0000\r\nMessage-Id: <1@shop.example>\r\n" + render("local", b"x\r\n")
    with RelayingPostfix(folder / "postfix-local", {name: value}) as postfix:
        sendmail = ["sendmail", "-C", str(postfix.etc), "-i", "-f", SENDER, recipient]
        subprocess.run(sendmail, input=content.replace(b"\r\n", b"\n"), check=True)
        arrived = line.wait_for(recipient)
    assert arrived.below(1) == content
