"""json-inbox: bearer tokens, from the command that makes them to the mail that they send."""

import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from services.cli.__main__ import call
from shared.loopback import is_loopback
from tests.integration.json_inbox_process import MIME, Inbox, message, run_inbox, settings_of, start
from tests.stack import Stack
from tests.support.certificates import Kind, make_certificates
from tests.support.waiting import free_ports, wait_until

RULE = {"name": "r", "configuration": {"params": {}, "outbound": ["smtp"]}}


def own_address() -> str:
    """An address of this machine that is not loopback: whoever connects to it comes from it."""
    found = [one.address for many in psutil.net_if_addrs().values() for one in many if one.family == socket.AF_INET]
    return next(address for address in found if not is_loopback(address))


SETTINGS = {"CLIENT_KEY_PREFIX": "mine/"}


class Tokens:
    """``mailwarren tokens`` against the database of one inbox."""

    def __init__(self, database: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._database = database
        self._capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = call(["tokens", *arguments, "--db-uri", self._database])
        return (code, *self._capsys.readouterr())

    def add(self, name: str, *scopes: str) -> dict[str, str]:
        """The headers that carry a new token."""
        options = [option for scope in scopes for option in ("--scope", scope)]
        code, out, error = self.run("add", name, *options, "--replace")
        assert code == 0, error
        return {"Authorization": f"Bearer {out.strip()}"}


@pytest.fixture
def tokens(inbox: Inbox, capsys: pytest.CaptureFixture[str]) -> Tokens:
    """Its tokens."""
    return Tokens(inbox.database, capsys)


def wait_for_token(client: httpx.Client, headers: dict[str, str]) -> None:
    wait_until(lambda: client.get("/openapi.json", headers=headers).status_code == 200, what="the token to be known")


def test_the_command(tokens: Tokens) -> None:
    code, out, error = tokens.run("add", "shop", "--scope", "send", "--scope", "read", "--expires", "2999-01-01")
    assert (code, out.startswith("mw_"), len(out)) == (0, True, 47)
    assert "added token 'shop'" in error
    assert tokens.run("add", "shop", "--scope", "read")[:2] == (1, "")
    code, again, error = tokens.run("add", "shop", "--scope", "route", "--scope", "send", "--replace", "--expires", "12h")
    assert (code, "replaced token 'shop'" in error, again != out) == (0, True, True)
    [head, line] = [line for line in tokens.run("list")[1].splitlines() if line.startswith(("name", "shop"))]
    assert head.split() == ["name", "scopes", "expires"]
    assert line.split()[:3] == ["shop", "send,", "route"]
    assert out.strip() not in tokens.run("list")[1]
    with psycopg.connect(tokens._database) as connection:
        stored = str(connection.execute("SELECT * FROM tokens").fetchall())
    assert again.strip() not in stored
    assert tokens.run("remove", "shop")[:2] == (0, "removed token 'shop'\n")
    assert tokens.run("remove", "shop")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["x", "--scope", "all"], "scopes: 'all': expected one or more of send, route, rules, read"),
        (["x y", "--scope", "send"], "name: 'x y'"),
        (["x", "--scope", "send", "--expires", "2020-01-01"], "expected a time to come"),
        (["x", "--scope", "send", "--expires", "soon"], "expected UTC time"),
        (["x"], "--scope"),
    ],
    ids=["scope", "name", "past", "no-time", "no-scope"],
)
def test_the_command_says_what_is_wrong(tokens: Tokens, arguments: list[str], told: str) -> None:
    code, out, error = tokens.run("add", *arguments)
    assert (code, out) == (2, "")
    assert told in error


def test_a_token_does_what_its_scopes_say_and_nothing_else(inbox: Inbox, tokens: Tokens) -> None:
    send, read, rules = (tokens.add(name, name) for name in ("send", "read", "rules"))
    for headers in (send, read, rules):
        wait_for_token(inbox.http, headers)
    redrive = {"action": "redrive", "dry-run": True}
    calls: list[tuple[str, str, Any, dict[str, int]]] = [
        ("POST", "/v1/messages", message(), {"send": 202, "read": 403, "rules": 403}),
        ("POST", "/v1/inject", message(), {"send": 202, "read": 403, "rules": 403}),
        ("POST", "/v1/actions", redrive, {"send": 403, "read": 403, "rules": 403}),
        ("GET", "/v1/config", None, {"send": 403, "read": 200, "rules": 403}),
        ("POST", "/v1/config", RULE, {"send": 403, "read": 403, "rules": 201}),
        ("POST", "/v1/config/test", message(), {"send": 403, "read": 200, "rules": 403}),
        ("DELETE", "/v1/config/r", None, {"send": 403, "read": 403, "rules": 204}),
        ("GET", "/metrics", None, {"send": 403, "read": 200, "rules": 403}),
    ]
    for method, path, body, expected in calls:
        for headers, name in ((send, "send"), (read, "read"), (rules, "rules")):
            answer = inbox.http.request(method, path, json=body, headers=headers)
            assert answer.status_code == expected[name], f"{method} {path} with {name}: {answer.text}"
            if answer.status_code == 403:
                assert answer.headers["content-type"] == "application/problem+json"
    both = tokens.add("both", "send", "rules")
    wait_for_token(inbox.http, both)
    assert inbox.http.post("/v1/actions", json=redrive, headers=both).json() == {"redriven": 0, "dry-run": True}


def test_passwords_of_smarthosts_are_for_those_who_may_set_them(inbox: Inbox, tokens: Tokens) -> None:
    reader, ruler = tokens.add("reader", "read"), tokens.add("ruler", "read", "rules")
    for headers in (reader, ruler):
        wait_for_token(inbox.http, headers)
    smarthost = {"hostname": "relay.example", "username": "me", "password": "hunter2"}
    rule = {"name": "via", "configuration": {"params": {}, "outbound": ["smtp"], "rewrite": {"smarthost": smarthost}}}
    assert inbox.http.post("/v1/config", json=rule, headers=ruler).status_code == 201
    for path in ("/v1/config", "/v1/config/via"):
        assert "hunter2" in inbox.http.get(path, headers=ruler).text
        shown = inbox.http.get(path, headers=reader)
        assert (shown.status_code, "hunter2" in shown.text, '"password":"***"' in shown.text) == (200, False, True)
    # What a reader was shown must not come back as the password.
    copied = inbox.http.get("/v1/config/via", headers=reader).json()
    refused = inbox.http.post("/v1/config", json=copied, headers=ruler)
    assert (refused.status_code, refused.json()["field"]) == (422, "configuration.rewrite.smarthost.password")
    assert inbox.http.delete("/v1/config/via", headers=ruler).status_code == 204


def test_the_mail_names_the_token_that_sent_it(inbox: Inbox, tokens: Tokens) -> None:
    headers = tokens.add("shop", "send")
    wait_for_token(inbox.http, headers)
    assert inbox.http.post("/v1/messages", json=message(http={"token": "root"}), headers=headers).status_code == 202
    [mail] = inbox.queues.take("inbox")
    assert mail.document["http"] == {"token": "shop", "remote-ip": "127.0.0.1"}


def test_where_mail_goes_needs_the_scope_route(inbox: Inbox, tokens: Tokens) -> None:
    send, route = tokens.add("send", "send"), tokens.add("route", "send", "route")
    for headers in (send, route):
        wait_for_token(inbox.http, headers)
    via: dict[str, Any] = {"smarthost": {"hostname": "relay.example"}}
    refused = inbox.http.post("/v1/messages", json=message(**via), headers=send)
    assert (refused.status_code, refused.json()["field"]) == (403, "smarthost")
    listed = inbox.http.post("/v1/messages", json=[message(), message(ips=["192.0.2.1"]), message("x")], headers=send)
    assert listed.status_code == 422
    assert [(error["index"], error["field"], error.get("status")) for error in listed.json()["errors"]] == [
        (1, "ips", 403),
        (2, "recipient", None),
    ]
    assert inbox.queues.take("inbox") == []
    partly = inbox.http.post("/v1/messages?partial=true", json=[message(), message(ips=["192.0.2.1"])], headers=send)
    assert (partly.status_code, partly.json()["errors"][0]["status"]) == (202, 403)
    stored = {"recipient": "to@example.org", "key": "mine/letter"}
    for item in (message(**via), stored):
        assert inbox.http.post("/v1/messages", json=item, headers=route).status_code == 202
    assert inbox.http.post("/v1/messages", json=stored, headers=send).json()["field"] == "key"
    assert [got.document.get("key") for got in inbox.queues.take("inbox")] == [None, None, "mine/letter"]
    assert [got.document.get("key") for got in inbox.queues.take("records")] == [None, None, "mine/letter"]


def test_a_removed_token_is_refused_at_once(inbox: Inbox, tokens: Tokens) -> None:
    headers = tokens.add("short", "read")
    wait_for_token(inbox.http, headers)
    tokens.run("remove", "short")
    wait_until(lambda: inbox.http.get("/openapi.json", headers=headers).status_code == 401, what="the token to be gone")
    assert inbox.http.get("/v1/config", headers=headers).headers["www-authenticate"].startswith("Bearer")
    assert headers["Authorization"].partition(" ")[2] not in inbox.process.log


def test_from_another_address_nothing_goes_without_a_token(
    servers: Stack, database_template: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    address = own_address()
    listen = f"{address}:{free_ports(1, address)[0]}"
    more = {"HTTP_LISTEN": listen, "HTTP_CLEARTEXT": "true"}
    with run_inbox(servers, database_template, tmp_path / "payloads", more) as inbox:
        for call_ in (("POST", "/v1/messages"), ("GET", "/v1/config"), ("GET", "/metrics"), ("GET", "/nowhere")):
            answer = inbox.http.request(*call_, headers={"X-Forwarded-For": "127.0.0.1", "Host": "localhost"})
            assert (answer.status_code, answer.json()["status"]) == (401, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
        for path in ("/liveness", "/readiness", "/swagger/", "/openapi.json"):
            assert inbox.http.get(path).status_code == 200
        headers = Tokens(inbox.database, capsys).add("far", "send")
        wait_for_token(inbox.http, headers)
        named = {**headers, "Host": "mail.example"}
        assert inbox.http.post("/v1/messages", json=message(), headers=named).status_code == 202
        [mail] = inbox.queues.take("inbox")
        assert mail.document["http"] == {"token": "far", "remote-ip": address}

        guesses = [
            inbox.http.get("/v1/config", headers={"Authorization": f"Bearer mw_{number}"}).status_code for number in range(12)
        ]
        # The new token was a guess itself, if it was shown before it was known.
        assert guesses in ([401] * 9 + [429] * 3, [401] * 10 + [429] * 2)
        assert inbox.http.post("/v1/messages", json=message(), headers=named).status_code == 202


def test_tokens_hold_while_postgres_is_down(
    vhost: str, servers: Stack, database: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    servers.declare_topology(vhost)
    headers = Tokens(database, capsys).add("kept", "send")
    settings = settings_of(vhost, database, tmp_path / "payloads")
    with start(settings), httpx.Client(base_url=f"http://{settings['HTTP_LISTEN']}", timeout=30) as client:
        assert client.post("/v1/messages", json=message(), headers=headers).status_code == 202
    down = settings | {"DB_URI": f"postgresql://postgres@127.0.0.1:{free_ports(1)[0]}/none"}
    with start(down), httpx.Client(base_url=f"http://{settings['HTTP_LISTEN']}", timeout=30) as client:
        assert client.post("/v1/messages", json=message(), headers=headers).status_code == 202
        assert client.post("/v1/messages", json=message(), headers={"Authorization": "Bearer mw_x"}).status_code == 401
    Path(settings["TOKENS_SNAPSHOT"]).unlink()
    with start(down), httpx.Client(base_url=f"http://{settings['HTTP_LISTEN']}", timeout=30) as client:
        unknown = client.post("/v1/messages", json=message(), headers=headers)
        assert (unknown.status_code, "retry-after" in unknown.headers) == (503, True)
        assert client.post("/v1/messages", json=message()).status_code == 202


def test_https_beyond_loopback(
    vhost: str, servers: Stack, database: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    servers.declare_topology(vhost)
    address = own_address()
    listen = f"{address}:{free_ports(1, address)[0]}"
    settings = settings_of(vhost, database, tmp_path / "payloads") | {"HTTP_LISTEN": listen}
    with pytest.raises(AssertionError, match=r"ended with 2: json-inbox: http-listen: .*in the clear"), start(settings):
        pytest.fail("it listens")
    made = make_certificates(tmp_path / "certificates", ["mail.example"])
    settings |= {"HTTP_TLS_PUBLIC_KEY": str(made.certificate(Kind.GOOD)), "HTTP_TLS_PRIVATE_KEY": str(made.key(Kind.GOOD))}
    headers = Tokens(database, capsys).add("far", "send") | {"Host": "mail.example"}
    with (
        start(settings) as process,
        httpx.Client(base_url=f"https://{listen}", verify=made.client_context(), timeout=30) as client,
    ):
        named = {"sni_hostname": "mail.example"}
        answer = client.post("/v1/messages", json={"recipient": "a@b.example", "mime": MIME}, headers=headers, extensions=named)
        assert answer.status_code == 202
        process.signal(signal.SIGHUP)
        wait_until(lambda: "certificate read again" in process.log)
        assert client.get("/liveness", extensions=named).text == "ok\n"
