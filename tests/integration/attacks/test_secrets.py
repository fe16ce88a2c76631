"""Secrets are in no log, at the level that tells most, whatever goes wrong with them."""

import base64
import json
from pathlib import Path

import pytest

from services.cli.__main__ import call
from tests.integration.attacks.targets import PASSWORD, encode_plain, open_target
from tests.integration.json_inbox_process import message, run_inbox
from tests.stack import Stack
from tests.support.waiting import wait_until

SECRET = "s3cret-Tr0mbone"


def shapes_of(secret: str) -> list[str]:
    """How it could stand there: as it is, in base64 at each of three offsets, in hexadecimal, in a URL."""
    shapes = [secret, secret.encode().hex(), "".join(f"%{octet:02x}" for octet in secret.encode())]
    for offset in range(3):
        # Without the characters that depend on the neighbours.
        shapes.append(base64.b64encode(b"\0" * offset + secret.encode()).decode()[4 if offset else 0 :].rstrip("=")[:-2])
    return shapes


def check_silent(log: str, *secrets: str) -> None:
    """None of them is in the log."""
    assert '"level":"' in log
    for secret in secrets:
        for shape in shapes_of(secret):
            assert shape not in log


def test_of_smtp_inbox(vhost: str, tmp_path: Path) -> None:
    broker_password = vhost.partition("://")[2].rpartition("@")[0].partition(":")[2]
    with open_target(tmp_path, vhost) as target:
        with target.secure() as client:
            for name, password in (("app", SECRET), (SECRET, "x"), (SECRET, SECRET), ("app\r", SECRET), ("app", f"{SECRET}\0")):
                client.ask(f"AUTH PLAIN {encode_plain(name, password)}")
            client.ask(f"AUTH PLAIN {encode_plain('app', SECRET)}=x")
            client.ask(f"AUTH {encode_plain('app', SECRET)}")
            client.ask(f"AUTH PLAIN {encode_plain('app', SECRET)}" + "A" * 13_000)
            client.ask("AUTH LOGIN")
            client.ask(base64.b64encode(SECRET.encode()).decode())
            client.ask(base64.b64encode(SECRET.encode()).decode())
            # Typed in the wrong place.
            for line in (SECRET, f"{SECRET} x", f"PASS {SECRET}", f"VRFY {SECRET}", encode_plain("app", SECRET)):
                client.ask(line)
            assert client.ask(f"AUTH PLAIN {encode_plain('app', PASSWORD)}").startswith("235 ")
            for header in ("X-MQ-Smarthost-Hostname: relay.example\r\n", "", "X-MQ-Smarthost-Port: x\r\n"):
                client.begin().send(f"{header}X-MQ-Smarthost-Password: {SECRET}\r\nSubject: x\r\n\r\n{SECRET}\r\n.\r\n".encode())
                client.reply()
        with target.inbox.hello() as client:
            assert client.ask(f"AUTH PLAIN {encode_plain('app', SECRET)}").startswith("538 ")
        log = target.inbox.log()
    assert '"not logged in"' in log
    key = Path(target.inbox.environment["INBOUND_SMTP_TLS_PRIVATE_KEY"]).read_text().split("\n")[1]
    check_silent(log, SECRET, PASSWORD, broker_password, key)


def test_of_json_inbox(servers: Stack, database_template: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tokens right and wrong, passwords of smarthosts, private keys of DKIM: accepted, refused, parked, without a queue."""
    with run_inbox(servers, database_template, tmp_path / "payloads", {"LOG_LEVEL": "debug"}) as web:
        assert call(["tokens", "add", "app", "--scope", "send", "--scope", "route", "--db-uri", web.database]) == 0
        token = capsys.readouterr().out.strip()
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": SECRET}
        smarthost = {"hostname": "relay.example", "username": "u", "password": SECRET}
        wait_until(lambda: web.http.post("/v1/messages", json=message(smarthost=smarthost), headers=headers).status_code == 202)
        for wrong in (f"Bearer {SECRET}", f"Bearer {token}{SECRET}", f"Basic {encode_plain('a', SECRET)}", SECRET):
            assert web.http.get("/v1/config", headers={"Authorization": wrong}).status_code == 401
        key = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----"
        answers = [
            web.http.post("/v1/messages", json=message(**properties))
            for properties in (
                {"smarthost": {"password": SECRET}},
                {"smarthost": {**smarthost, "port": "x"}},
                {"smarthost": {**smarthost, "password": [SECRET]}},
                {"dkim": {"domain": "example.org", "selector": "s", "key": key}},
                {"dkim": [{"domain": "example.org", "selector": "s", "key": key}]},
            )
        ]
        assert {answer.status_code for answer in answers} == {422}
        assert not [answer.text for answer in answers if SECRET in answer.text]
        for action in ({"action": "send", "smarthost": smarthost}, {"action": "x", "password": SECRET}, {"password": SECRET}):
            web.queues.publish(action, exchange="", key="actions")
        web.queues.publish(json.dumps({"password": SECRET}).encode()[:-1], exchange="", key="actions")
        wait_until(lambda: web.queues.count("dead") == 4)
        web.queues.run(lambda channel: channel.queue_delete("inbox"))
        assert web.http.post("/v1/messages", json=message(smarthost=smarthost)).status_code == 503
        log = web.process.log
        passwords = [url.partition("://")[2].rpartition("@")[0].partition(":")[2] for url in (web.queues.address, web.database)]
    assert all(passwords)
    check_silent(log, SECRET, token, *passwords)
