"""smtp-inbox as a process: TLS, and what a client cannot do with it."""

import signal
import ssl
import warnings
from pathlib import Path

import pytest

from tests.integration.smtp_inbox_process import CONTENT, Client, Inbox, content_of, run_inbox, take_messages
from tests.support.certificates import Kind, make_certificates
from tests.support.waiting import free_ports, wait_until


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


def test_a_certificate_read_again_on_sighup_is_for_new_connections(vhost: str, tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    certificate, key = tmp_path / "live.pem", tmp_path / "live.key"

    def use(kind: Kind) -> None:
        certificate.write_bytes(made.certificate(kind).read_bytes())
        key.write_bytes(made.key(kind).read_bytes())

    use(Kind.GOOD)
    starttls, smtps = free_ports(2)
    tls = {"INBOUND_SMTP_TLS": "true", "INBOUND_SMTP_TLS_PUBLIC_KEY": str(certificate), "INBOUND_SMTP_TLS_PRIVATE_KEY": str(key)}
    listen = f"relay://127.0.0.1:{starttls},smtps://127.0.0.1:{smtps}"
    good, self_signed = (made.certificate(kind).read_text() for kind in (Kind.GOOD, Kind.SELF_SIGNED))
    with run_inbox(tmp_path, vhost, **tls, INBOUND_SMTP_LISTEN=listen) as inbox:
        old = [_open_starttls(starttls), _open_smtps(smtps)]
        assert [_certificate_of(client) for client in old] == [good, good]
        key.write_text("not a key")
        inbox.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the certificate was not replaced" in inbox.log())
        certificate.write_bytes(made.certificate(Kind.SELF_SIGNED).read_bytes())
        key.write_bytes(made.key(Kind.GOOD).read_bytes())
        inbox.process.send_signal(signal.SIGHUP)
        wait_until(lambda: inbox.log().count("the certificate was not replaced") == 2)
        for client in (_open_starttls(starttls), _open_smtps(smtps)):
            assert _certificate_of(client) == good
            client.socket.close()
        use(Kind.SELF_SIGNED)
        inbox.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "certificate read again" in inbox.log())
        for client in (_open_starttls(starttls), _open_smtps(smtps)):
            assert _certificate_of(client) == self_signed
            client.socket.close()
        for client in old:
            client.begin().send(CONTENT + b".\r\n")
            assert client.reply().startswith("250-2.0.0")
            client.socket.close()


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _open_starttls(port: int) -> Client:
    client = Client(port).greet()
    client.start_tls(_trusting())
    assert client.ask("EHLO client.example").startswith("250-")
    return client


def _open_smtps(port: int) -> Client:
    client = Client(port)
    client.socket = _trusting().wrap_socket(client.socket)
    return client.greet()


def _certificate_of(client: Client) -> str:
    assert isinstance(client.socket, ssl.SSLSocket)
    return ssl.DER_cert_to_PEM_cert(client.socket.getpeercert(binary_form=True) or b"")


def test_connections_that_do_not_shake_hands_are_counted_too(vhost: str, tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "certificates")
    (port,) = free_ports(1)
    settings = {
        "INBOUND_SMTP_TLS": "true",
        "INBOUND_SMTP_TLS_PUBLIC_KEY": str(made.certificate(Kind.GOOD)),
        "INBOUND_SMTP_TLS_PRIVATE_KEY": str(made.key(Kind.GOOD)),
        "INBOUND_SMTP_LISTEN": f"smtps://127.0.0.1:{port}",
        "INBOUND_SMTP_MAX_CONNECTIONS_PER_ADDRESS": "3",
    }
    with run_inbox(tmp_path, vhost, **settings) as inbox:
        silent = [Client(port) for _ in range(2)]
        talking = _open_smtps(port)
        with Client(port) as more:
            assert more.reply() == ""  # closed without a handshake
        assert "too many connections, closed before the handshake" in inbox.log()
        silent.pop().socket.close()

        def is_let_in() -> bool:
            with Client(port) as client:
                client.socket = _trusting().wrap_socket(client.socket)
                return client.reply().startswith("220 ")

        wait_until(is_let_in, tolerating=(OSError,))
        silent[0].send(b"EHLO clear.example\r\n")
        assert not silent[0].reply().startswith(("220", "250"))
        assert talking.ask("NOOP").startswith("250")
        for client in (*silent, talking):
            client.socket.close()
        assert inbox.stop() == 0
