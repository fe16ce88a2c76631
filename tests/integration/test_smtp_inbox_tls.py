"""smtp-inbox as a process: TLS, and what a client cannot do with it."""

import signal
import ssl
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.smtp_inbox_process import CONTENT, Client, Inbox, content_of, run_inbox, take_messages
from tests.support.certificates import Kind, make_certificates
from tests.support.waiting import wait_until


def test_starttls(vhost: str, tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    certificate, key = tmp_path / "live.pem", tmp_path / "live.key"
    certificate.write_bytes(made.certificate(Kind.GOOD).read_bytes())
    key.write_bytes(made.key(Kind.GOOD).read_bytes())
    tls = {
        "INBOUND_SMTP_TLS": "true",
        "INBOUND_SMTP_TLS_PUBLIC_KEY": str(certificate),
        "INBOUND_SMTP_TLS_PRIVATE_KEY": key.read_text(),
    }
    with run_inbox(tmp_path, vhost, **tls) as inbox:
        with inbox.hello() as client:
            client.start_tls(made.client_context())
            assert client.ask("MAIL FROM:<a@example.com>").startswith("503 5.5.1")  # what was said in clear is forgotten
            assert "STARTTLS" not in client.ask("EHLO client.example")
            client.begin().send(CONTENT + b".\r\n")
            assert client.reply().startswith("250-2.0.0")
            assert client.ask("STARTTLS").startswith("503 5.5.1")
            assert client.ask("QUIT").startswith("221")
        ((document, _),) = take_messages(vhost, "inbox")
        assert document["connection"]["secure"] is True
        assert b" with ESMTPS id " in content_of(document)
        _check_no_injection(inbox)
        _check_old_tls_fails(inbox, made.client_context())


def _check_no_injection(inbox: Inbox) -> None:
    with inbox.hello() as client:
        client.send(b"STARTTLS\r\nRSET\r\n")
        assert client.reply().startswith("554 5.5.0")
        assert client.reply() == ""
    with inbox.hello() as client:
        assert client.ask("STARTTLS").startswith("220")
        client.send(b"EHLO clear.example\r\n")
        client.socket.settimeout(5)
        assert client.socket.recv(1000)[:3] not in (b"250", b"500")


def _check_old_tls_fails(inbox: Inbox, context: ssl.SSLContext) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with inbox.hello() as client, pytest.raises((ssl.SSLError, ConnectionError)):
        client.start_tls(context)
    wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 0)


def test_smtps_and_a_certificate_read_again_on_sighup(vhost: str, tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    certificate, key = tmp_path / "live.pem", tmp_path / "live.key"

    def use(kind: Kind) -> None:
        certificate.write_bytes(made.certificate(kind).read_bytes())
        key.write_bytes(made.key(kind).read_bytes())

    def fetch_certificate(port: int) -> str:
        with closing(context.wrap_socket(Client(port).socket)) as wrapped:
            assert wrapped.recv(100).startswith(b"220 ")
            return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(binary_form=True) or b"")

    use(Kind.GOOD)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    tls = {"INBOUND_SMTP_TLS": "true", "INBOUND_SMTP_TLS_PUBLIC_KEY": str(certificate), "INBOUND_SMTP_TLS_PRIVATE_KEY": str(key)}
    with run_inbox(tmp_path, vhost, **tls) as plain:
        plain.stop()
        plain.environment["INBOUND_SMTP_LISTEN"] = f"smtps://127.0.0.1:{plain.port}"
        plain.process = plain.start()
        plain.wait_ready()
        first = fetch_certificate(plain.port)
        key.write_text("not a key")
        plain.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the certificate was not replaced" in plain.log())
        assert fetch_certificate(plain.port) == first
        use(Kind.SELF_SIGNED)
        plain.process.send_signal(signal.SIGHUP)
        wait_until(lambda: fetch_certificate(plain.port) != first)
