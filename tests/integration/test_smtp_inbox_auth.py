"""smtp-inbox as a process: who may send after AUTH, what AUTH answers, and what foreign clients make of it."""

import base64
import hashlib
import signal
import smtplib
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.smtp_inbox_process import CONTENT, Client, Inbox, content_of, run_inbox, take_messages
from tests.stack import Stack
from tests.support.certificates import Certificates, Kind, make_certificates
from tests.support.waiting import free_ports, wait_until

PASSWORD = "correct horse"
FAST = {"INBOUND_SMTP_AUTH_DELAY": "0", "INBOUND_SMTP_AUTH_MAX_FAILURES": "1000"}


def plain(name: str, password: str, acts_for: str = "") -> str:
    return base64.b64encode(f"{acts_for}\0{name}\0{password}".encode()).decode()


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def user_line(name: str, password: str) -> str:
    """With a hash that costs nothing."""
    digest = hashlib.scrypt(password.encode(), salt=b"salt" * 4, n=2, r=1, p=1)
    salt, text = (base64.b64encode(octets).decode().rstrip("=") for octets in (b"salt" * 4, digest))
    return f"{name}:$scrypt$ln=1,r=1,p=1${salt}${text}\n"


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "certificates")


@pytest.fixture
def settings(tmp_path: Path, made: Certificates) -> dict[str, str]:
    """TLS and a users file with one user; nobody may relay without AUTH."""
    users = tmp_path / "users"
    users.touch(0o600)
    users.write_text(user_line("app", PASSWORD))
    return {
        "INBOUND_SMTP_TLS": "true",
        "INBOUND_SMTP_TLS_PUBLIC_KEY": str(made.certificate(Kind.GOOD)),
        "INBOUND_SMTP_TLS_PRIVATE_KEY": str(made.key(Kind.GOOD)),
        "INBOUND_SMTP_AUTH": str(users),
        "SMTP_RANGE": "",
        **FAST,
    }


def secure(inbox: Inbox, made: Certificates) -> Client:
    """A client under TLS that has said EHLO."""
    client = inbox.hello()
    client.start_tls(made.client_context())
    assert "250-AUTH PLAIN LOGIN" in client.ask("EHLO client.example")
    return client


def test_auth_lets_a_client_relay_and_its_name_travels_along(
    vhost: str, tmp_path: Path, made: Certificates, settings: dict[str, str]
) -> None:
    with run_inbox(tmp_path, vhost, **settings) as inbox:
        with secure(inbox, made) as client:
            assert client.ask("MAIL FROM:<a@example.com>").startswith("250")
            assert client.ask("RCPT TO:<b@example.org>").startswith("550 5.7.1")
            assert client.ask(f"AUTH PLAIN {plain('app', PASSWORD)}").startswith("503 5.5.1")  # not in a mail
            client.ask("RSET")
            assert client.ask(f"AUTH PLAIN {plain('app', PASSWORD)}") == "235 2.7.0 Authentication succeeded"
            assert client.ask(f"AUTH PLAIN {plain('app', PASSWORD)}").startswith("503 5.5.1")  # once
            assert "AUTH" not in client.ask("EHLO client.example")
            assert client.ask("MAIL FROM:<a@example.com> AUTH=e+3Dmc2@example.com").startswith("250")
            assert client.ask("RCPT TO:<b@example.org>").startswith("250")
            assert client.ask("DATA").startswith("354")
            client.send(CONTENT + b".\r\n")
            assert client.reply().startswith("250-2.0.0")
        ((document, _),) = take_messages(vhost, "inbox")
        assert document["connection"]["user"] == "app"
        assert b" with ESMTPSA id " in content_of(document)
        assert inbox.metric('smtp_inbox_logins_total{answer="yes"}') == 1


def test_there_is_no_auth_without_tls(vhost: str, tmp_path: Path, made: Certificates, settings: dict[str, str]) -> None:
    with run_inbox(tmp_path, vhost, **settings) as inbox:
        with inbox.connect() as client:
            client.reply()
            assert client.ask("AUTH PLAIN").startswith("503 5.5.1")
            assert "AUTH" not in client.ask("EHLO client.example")
            assert client.ask(f"AUTH PLAIN {plain('app', PASSWORD)}").startswith("538 5.7.11")
            client.start_tls(made.client_context())
            assert client.ask(f"AUTH PLAIN {plain('app', PASSWORD)}").startswith("503 5.5.1")  # EHLO again
            client.ask("HELO client.example")
            assert client.ask(f"AUTH PLAIN {plain('app', PASSWORD)}").startswith("503 5.5.1")
        inbox.stop()
        del inbox.environment["INBOUND_SMTP_AUTH"]
        inbox.process = inbox.start()
        inbox.wait_ready()
        with inbox.hello() as client:
            assert client.ask(f"AUTH PLAIN {plain('app', PASSWORD)}").startswith("502 5.5.1")


@pytest.mark.parametrize(
    ("lines", "replies"),
    [
        pytest.param(["AUTH PLAIN", plain("app", PASSWORD)], ["334 ", "235 2.7.0"], id="PLAIN after a challenge"),
        pytest.param(["auth plain " + plain("app", PASSWORD, "app")], ["235 2.7.0"], id="PLAIN, authzid the same"),
        pytest.param(["AUTH PLAIN " + plain("app", PASSWORD, "root")], ["535 5.7.8"], id="PLAIN, authzid another"),
        pytest.param(["AUTH PLAIN " + plain("app", "wrong")], ["535 5.7.8"], id="wrong password"),
        pytest.param(["AUTH PLAIN " + plain("nobody", PASSWORD)], ["535 5.7.8"], id="no such user"),
        pytest.param(["AUTH PLAIN " + plain("app", "")], ["535 5.7.8"], id="no password"),
        pytest.param(["AUTH PLAIN " + encode("app\0" + PASSWORD)], ["535 5.7.8"], id="a NUL is missing"),
        pytest.param(["AUTH PLAIN AGFwcAD/"], ["535 5.7.8"], id="not UTF-8"),
        pytest.param(["AUTH PLAIN ="], ["535 5.7.8"], id="nothing as the initial response"),
        pytest.param(
            ["AUTH LOGIN", encode("app"), encode(PASSWORD)],
            ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 2.7.0"],
            id="LOGIN",
        ),
        pytest.param(
            ["AUTH LOGIN " + encode("app"), encode(PASSWORD)], ["334 UGFzc3dvcmQ6", "235 2.7.0"], id="LOGIN, name at once"
        ),
        pytest.param(["AUTH LOGIN", "", encode("x")], ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "535 5.7.8"], id="LOGIN, no name"),
        pytest.param(["AUTH LOGIN", encode("app"), "*"], ["334 ", "334 ", "501 5.7.0"], id="cancelled"),
        pytest.param(["AUTH PLAIN", "*"], ["334 ", "501 5.7.0"], id="PLAIN cancelled"),
        pytest.param(["AUTH PLAIN", "="], ["334 ", "501 5.5.2"], id="= is for the initial response only"),
        pytest.param(["AUTH PLAIN AGFwcABjb3JyZWN0"[:-1]], ["501 5.5.2"], id="not base64"),
        pytest.param(["AUTH PLAIN *"], ["501 5.5.2"], id="star at once"),
        pytest.param(["AUTH CRAM-MD5"], ["504 5.5.4"], id="another mechanism"),
        pytest.param(["AUTH"], ["501 5.5.4"], id="no mechanism"),
        pytest.param(["AUTH PLAIN", "A" * 12_284], ["334 ", "535 5.7.8"], id="12,286 octets"),
        pytest.param(["AUTH PLAIN", "A" * 12_287], ["334 ", "500 5.5.6"], id="12,289 octets"),
        pytest.param(["AUTH PLAIN " + "A" * 12_275], ["501 5.5.2"], id="command of 12,288 octets"),
        pytest.param(["AUTH PLAIN " + "A" * 12_276], ["500 5.5.6"], id="command of 12,289 octets"),
        pytest.param(["AUTH PLAIN " + "A" * 300_000], ["500 5.5.6"], id="command without end"),
        pytest.param(["NOOP " + "A" * 12_000], ["500 5.5.2"], id="other commands stay short"),
    ],
)
def test_dialogues(auth_inbox: tuple[Inbox, Certificates], lines: list[str], replies: list[str]) -> None:
    with secure(*auth_inbox) as client:
        for line, reply in zip(lines, replies, strict=True):
            assert client.ask(line).startswith(reply)
        assert client.ask("NOOP").startswith("250")


@pytest.fixture(scope="module")
def auth_inbox(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Inbox, Certificates]]:
    """One process for all dialogues."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    folder = tmp_path_factory.mktemp("auth")
    made = make_certificates(folder / "certificates")
    users = folder / "users"
    users.touch(0o600)
    users.write_text(user_line("app", PASSWORD))
    tls = {
        "INBOUND_SMTP_TLS": "true",
        "INBOUND_SMTP_TLS_PUBLIC_KEY": str(made.certificate(Kind.GOOD)),
        "INBOUND_SMTP_TLS_PRIVATE_KEY": str(made.key(Kind.GOOD)),
    }
    with run_inbox(folder, servers.rabbitmq.create_vhost(name), INBOUND_SMTP_AUTH=str(users), **tls, **FAST) as inbox:
        yield inbox, made
    servers.rabbitmq.drop_vhost(name)


def test_submission_takes_no_mail_before_auth(vhost: str, tmp_path: Path, made: Certificates, settings: dict[str, str]) -> None:
    submission, submissions, smtps, relay = free_ports(4)
    settings |= {
        "INBOUND_SMTP_LISTEN": f"submission://127.0.0.1:{submission},submissions://127.0.0.1:{submissions},"
        f"smtps://127.0.0.1:{smtps},relay://127.0.0.1:{relay}",
        "SMTP_RANGE": "127.0.0.0/8",
    }
    with run_inbox(tmp_path, vhost, **settings):
        clients = {port: Client(port) for port in (submission, submissions, smtps, relay)}
        for port in (submissions, smtps):
            clients[port].socket = made.client_context().wrap_socket(clients[port].socket, server_hostname="localhost")
        for client in clients.values():
            client.greet()
        for port in (submission, submissions):
            assert clients[port].ask("MAIL FROM:<a@example.com>") == "530 5.7.0 Authentication required"
        clients[submission].start_tls(made.client_context())
        clients[submission].ask("EHLO client.example")
        for port in (submission, submissions):
            assert clients[port].ask("MAIL FROM:<a@example.com>") == "530 5.7.0 Authentication required"
            assert clients[port].ask(f"AUTH PLAIN {plain('app', PASSWORD)}").startswith("235")
        for client in clients.values():
            client.begin().send(CONTENT + b".\r\n")
            assert client.reply().startswith("250-2.0.0")
            client.socket.close()
    users = [document["connection"]["user"] for document, _ in take_messages(vhost, "inbox")]
    assert users == ["app", "app", None, None]


def test_who_guesses_too_often_is_sent_away(vhost: str, tmp_path: Path, made: Certificates, settings: dict[str, str]) -> None:
    settings |= {"INBOUND_SMTP_AUTH_MAX_FAILURES": "3", "INBOUND_SMTP_AUTH_DELAY": "0.1"}
    with run_inbox(tmp_path, vhost, LOG_LEVEL="debug", **settings) as inbox:
        with secure(inbox, made) as client:
            for name, least in (("app", 0.1), ("nobody", 0.2), ("root", 0.4)):
                began = time.monotonic()
                assert client.ask(f"AUTH PLAIN {plain(name, 'gu3ss')}") == "535 5.7.8 Authentication credentials invalid"
                assert time.monotonic() - began >= least
            assert client.ask(f"AUTH PLAIN {plain('app', PASSWORD)}").startswith("421 4.7.0")
            assert client.reply() == ""
        with secure(inbox, made) as client:
            assert client.ask(f"AUTH LOGIN {encode('app')}").startswith("334")
            assert client.ask(encode(PASSWORD)).startswith("421 4.7.0")
        for secret in ("gu3ss", encode("gu3ss"), plain("app", "gu3ss"), PASSWORD, encode(PASSWORD)):
            assert secret not in inbox.log()
        assert inbox.log().count("not logged in") == 5


def test_a_user_guessed_at_is_closed_to_strangers(
    vhost: str, tmp_path: Path, made: Certificates, settings: dict[str, str]
) -> None:
    with (
        run_inbox(tmp_path, vhost, **settings, INBOUND_SMTP_AUTH_MAX_FAILURES_PER_USER="2") as inbox,
        secure(inbox, made) as client,
    ):
        for _ in range(2):
            assert client.ask(f"AUTH PLAIN {plain('app', 'guess')}").startswith("535")
        assert client.ask(f"AUTH PLAIN {plain('app', PASSWORD)}") == "454 4.7.0 Temporary authentication failure"
        assert client.ask(f"AUTH PLAIN {plain('other', PASSWORD)}").startswith("535")


def test_the_users_file_is_read_again_when_it_changes(
    vhost: str, tmp_path: Path, made: Certificates, settings: dict[str, str]
) -> None:
    users = tmp_path / "users"
    with run_inbox(tmp_path, vhost, **settings) as inbox:

        def log_in(name: str, password: str) -> str:
            with secure(inbox, made) as client:
                return client.ask(f"AUTH PLAIN {plain(name, password)}")[:3]

        assert (log_in("app", PASSWORD), log_in("new", "secret")) == ("235", "535")
        users.write_text(user_line("new", "secret"))
        assert (log_in("app", PASSWORD), log_in("new", "secret")) == ("535", "235")
        users.write_text("new clear-text\n")
        assert log_in("new", "secret") == "235"
        inbox.process.send_signal(signal.SIGHUP)
        wait_until(lambda: inbox.log().count("the users were not replaced") == 2)
        assert "clear-text" not in inbox.log()


class _Service(ThreadingHTTPServer):
    """Knows one user; says otherwise whatever ``status`` says."""

    status = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.hold = threading.Event()
        self.hold.set()
        self.seen: list[str] = []


class _Answer(BaseHTTPRequestHandler):
    server: _Service

    def do_GET(self) -> None:
        self.server.hold.wait(10)
        self.server.seen.append(f"{self.path} {self.headers['Authorization']}")
        fine = self.headers["Authorization"] == f"Basic {encode(f'app:{PASSWORD}')}"
        self.send_response(self.server.status or (204 if fine else 401))
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def run_service() -> Iterator[_Service]:
    with _Service() as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        try:
            yield service
        finally:
            service.shutdown()


def test_a_service_is_asked_with_basic_authentication(
    vhost: str, tmp_path: Path, made: Certificates, settings: dict[str, str]
) -> None:
    with run_service() as service:
        port = service.server_address[1]
        settings |= {
            "INBOUND_SMTP_AUTH": f"http://127.0.0.1:{port}/auth",
            "INBOUND_SMTP_AUTH_TIMEOUT": "1",
            "HTTP_PROXY": "http://127.0.0.1:1/",
            "http_proxy": "http://127.0.0.1:1/",
        }
        with run_inbox(tmp_path, vhost, LOG_LEVEL="debug", **settings) as inbox, secure(inbox, made) as client:

            def log_in(name: str = "app", password: str = PASSWORD) -> str:
                return client.ask(f"AUTH PLAIN {plain(name, password)}")[:9]

            assert log_in(password="wrong") == "535 5.7.8"
            assert log_in("a:b") == "535 5.7.8"  # cannot be said in Basic
            assert service.seen == [f"/auth Basic {encode('app:wrong')}"]
            for status in (302, 404, 500):
                service.status = status
                assert log_in() == "454 4.7.0"
            assert len(service.seen) == 4  # no redirect was followed
            service.status = 403
            assert log_in() == "535 5.7.8"
            service.status = 0
            service.hold.clear()
            with inbox.hello() as other:
                client.send(f"AUTH PLAIN {plain('app', PASSWORD)}\r\n".encode())
                assert other.ask("NOOP").startswith("250")  # nobody else waits
            assert client.reply().startswith("454 4.7.0")
            service.hold.set()
            assert log_in() == "235 2.7.0"
            assert PASSWORD not in inbox.log()
            assert encode(f"app:{PASSWORD}") not in inbox.log()


def test_a_hash_being_made_stops_nobody(vhost: str, tmp_path: Path, made: Certificates, settings: dict[str, str]) -> None:
    (tmp_path / "users").write_text(user_line("app", PASSWORD).replace("ln=1,r=1,p=1", "ln=14,r=8,p=16"))
    settings |= {"INBOUND_SMTP_MAX_JUNK": "1000000"}
    with run_inbox(tmp_path, vhost, **settings) as inbox, secure(inbox, made) as client, inbox.hello() as other:
        client.send(f"AUTH PLAIN {plain('app', PASSWORD)}\r\n".encode())
        client.socket.setblocking(False)
        answered = 0
        while True:
            try:
                reply = client.socket.recv(1000)
                break
            except ssl.SSLWantReadError:
                assert other.ask("NOOP").startswith("250")
                answered += 1
        assert reply.startswith(b"535")
        assert answered >= 10


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks(auth_inbox: tuple[Inbox, Certificates], mechanism: str) -> None:
    inbox, _ = auth_inbox
    command = ["swaks", "--server", f"127.0.0.1:{inbox.port}", "--tls", "--auth", mechanism, "--auth-user", "app"]
    command += ["--from", "a@example.com", "--to", "b@example.org", "--auth-password"]
    done = subprocess.run([*command, PASSWORD], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout
    assert "235 2.7.0" in done.stdout
    assert subprocess.run([*command, "wrong"], capture_output=True, timeout=30, check=False).returncode == 28  # AUTH failed


@pytest.mark.parametrize("login", ["AUTH=PLAIN", "AUTH=LOGIN"])
def test_curl(auth_inbox: tuple[Inbox, Certificates], tmp_path: Path, login: str) -> None:
    inbox, made = auth_inbox
    mail = tmp_path / "mail"
    mail.write_bytes(CONTENT)
    command = [
        "curl",
        "-sS",
        "--ssl-reqd",
        "--cacert",
        str(made.ca),
        f"smtp://localhost:{inbox.port}/client.example",
        "-T",
        str(mail),
    ]
    command += ["--resolve", f"localhost:{inbox.port}:127.0.0.1", "--mail-from", "a@example.com", "--mail-rcpt", "b@example.org"]
    command += ["--login-options", login, "--user"]
    done = subprocess.run([*command, f"app:{PASSWORD}"], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert subprocess.run([*command, "app:wrong"], capture_output=True, timeout=30, check=False).returncode == 67  # login denied


def test_smtplib(auth_inbox: tuple[Inbox, Certificates]) -> None:
    inbox, made = auth_inbox
    with smtplib.SMTP("127.0.0.1", inbox.port, "client.example", timeout=15) as client:
        client.starttls(context=made.client_context())
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            client.login("app", "wrong")
        client.login("app", PASSWORD)
        assert client.sendmail("a@example.com", ["b@example.org"], CONTENT) == {}
