"""Guessing passwords and tokens, one after the other, on many connections at once, by every way in."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.integration.attacks.targets import PASSWORD, ClientFrom, encode_plain, settings_with_auth
from tests.integration.json_inbox_process import run_inbox as run_web
from tests.integration.smtp_inbox_process import Client, run_inbox
from tests.stack import Stack
from tests.support.certificates import Certificates

TOO_MANY = "421 4.7.0 Too many failed logins from your address, come again later"
NO = "535 5.7.8 Authentication credentials invalid"


def secure(client: Client, made: Certificates) -> Client:
    client.greet().start_tls(made.client_context())
    assert "250-AUTH PLAIN LOGIN" in client.ask("EHLO client.example")
    return client


def test_passwords_on_many_connections_at_once(vhost: str, tmp_path: Path) -> None:
    settings, made = settings_with_auth(tmp_path)
    settings |= {"INBOUND_SMTP_AUTH_MAX_FAILURES": "5", "INBOUND_SMTP_AUTH_DELAY": "0.1"}
    with run_inbox(tmp_path, vhost, **settings) as inbox:
        clients = [secure(ClientFrom(inbox.port, "127.0.0.2"), made) for _ in range(30)]
        guesses = [encode_plain("app", f"guess{number}") for number in range(29)] + [encode_plain("app", PASSWORD)]
        with ThreadPoolExecutor(30) as pool:
            replies = Counter(pool.map(lambda client, guess: client.ask(f"AUTH PLAIN {guess}"), clients[:29], guesses[:29]))
        assert set(replies) == {NO, TOO_MANY}
        assert 5 <= replies[NO] <= 5 + 2, "the limit, and what was being looked up when it was reached"
        # The right one comes too late, on this connection and on a new one.
        assert clients[29].ask(f"AUTH PLAIN {guesses[29]}") == TOO_MANY
        with secure(ClientFrom(inbox.port, "127.0.0.2"), made) as again:
            assert again.ask(f"AUTH PLAIN {guesses[29]}") == TOO_MANY
        # Another address is another matter.
        with secure(ClientFrom(inbox.port, "127.0.0.3"), made) as other:
            assert other.ask(f"AUTH PLAIN {guesses[29]}").startswith("235 ")
        for client in clients:
            client.socket.close()


def test_names_are_not_told_apart(vhost: str, tmp_path: Path) -> None:
    """A name that exists and one that does not get the same words."""
    settings, made = settings_with_auth(tmp_path)
    with run_inbox(tmp_path, vhost, **settings) as inbox, secure(inbox.connect(), made) as client:
        replies = {
            client.ask(f"AUTH PLAIN {encode_plain(name, 'wrong')}") for name in ("app", "nobody", "App", "app ", "a" * 3000)
        }
        assert replies == {NO}
        for address in ("app@mx.example", "root@mx.example"):
            assert client.ask(f"VRFY {address}") == "252 2.5.0 Send a mail, and see"
        assert client.ask("EXPN staff").startswith("502 ")


def test_tokens(servers: Stack, database_template: str, tmp_path: Path) -> None:
    with run_web(servers, database_template, tmp_path / "payloads", {"HTTP_TOKEN_REQUIRED": "true"}) as web:
        statuses = [
            web.http.get("/v1/config", headers={"Authorization": f"Bearer mw_{number:043}"}).status_code for number in range(40)
        ]
        assert statuses[:10] == [401] * 10
        assert Counter(statuses)[429] >= 25
        for given in ("Bearer", "Basic YTpi", "Bearer " + "x" * 5000, "Bearer a b", "mw_" + "0" * 43, ""):
            assert web.http.get("/v1/config", headers={"Authorization": given}).status_code in (401, 429)
        assert web.http.get("/v1/config").status_code == 401
