"""Local recipients: who may send to them, where their mail goes, and how they follow Postgres, files and commands."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.integration.json_inbox_process import run_inbox as run_json_inbox
from tests.integration.smtp_inbox_process import CONTENT, Client, Inbox, content_of, run_inbox, take_messages, without_received
from tests.integration.stopping import Command
from tests.stack import Stack
from tests.support.waiting import wait_until

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
STRANGERS = {"SMTP_RANGE": "192.0.2.0/24"}
LARGE = b"Subject: large\r\n\r\n" + b'0123456789 "quoted" \\ text\r\n' * 80_000


@pytest.fixture(scope="module")
def amqp(servers: Stack) -> Iterator[str]:
    """A virtual host for the tests that share one process."""
    yield servers.rabbitmq.create_vhost("smtp-inbox-locals")
    servers.rabbitmq.drop_vhost("smtp-inbox-locals")


@pytest.fixture(scope="module")
def inbox(amqp: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    """All clients are strangers; local mail goes to ``local``."""
    folder = tmp_path_factory.mktemp("inbox")
    settings = {"LOCAL_DOMAINS": "local.example", "LOCAL_ADDRESSES": "bounce-*@other.example", "RABBITMQ_LOCAL": "local"}
    with run_inbox(folder, amqp, **STRANGERS, **settings) as inbox:
        yield inbox


def send(inbox: Inbox, *recipients: str, content: bytes = CONTENT) -> str:
    """A mail; the reply to its dot."""
    with inbox.hello().begin(*recipients) as client:
        client.send(content + b".\r\n")
        return client.reply()


def ask(inbox: Inbox, recipient: str) -> str:
    """The reply to RCPT."""
    with inbox.hello() as client:
        client.ask("MAIL FROM:<a@example.com>")
        return client.ask(f"RCPT TO:<{recipient}>")


@pytest.mark.parametrize("recipient", ["b@local.example", "B@LOCAL.EXAMPLE", '"b c"@local.example', "bounce-1@other.example"])
def test_a_stranger_may_send_to_local_recipients(inbox: Inbox, amqp: str, recipient: str) -> None:
    assert send(inbox, recipient).startswith("250-2.0.0 ")

    ((document, properties),) = take_messages(amqp, "local")
    assert document["recipient"] == recipient
    assert without_received(content_of(document)) == CONTENT
    assert (properties.app_id, properties.delivery_mode) == ("mailwarren", 2)
    assert take_messages(amqp, "inbox") == []
    ((record, properties),) = take_messages(amqp, "records")
    assert (record["id"], "mime" in record) == (document["id"], False)
    assert properties.headers["event"] == "success"
    (result,) = record["results"]
    assert (result["state"], result["result"], result["attempt"]) == ("message", "accepted", 1)
    assert "results" not in document


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("b@foreign.example", "550 5.7.1 No relay for you"),
        ("b@local.example.foreign.example", "550 5.7.1 No relay for you"),
        ("bounce@other.example", "550 5.7.1 No relay for you"),
        ("b%foreign.example@local.example", "550 5.7.1 No routing by local parts"),
        ('"b@foreign.example"@local.example', "550 5.7.1 No routing by local parts"),
        ("b@[127.0.0.1]", "550 5.7.1 No relay for you"),
    ],
)
def test_and_to_nobody_else(inbox: Inbox, recipient: str, reply: str) -> None:
    assert ask(inbox, recipient) == reply


def test_a_mail_for_several_is_taken_for_the_local_ones(inbox: Inbox, amqp: str) -> None:
    with inbox.hello() as client:
        client.ask("MAIL FROM:<>")
        replies = [client.ask(f"RCPT TO:<{name}>")[:3] for name in ("b@local.example", "c@foreign.example", "d@local.example")]
        assert client.ask("DATA").startswith("354 ")
        client.send(CONTENT + b".\r\n")
        assert client.reply().count("250-2.0.0 ") == 2

    assert replies == ["250", "550", "250"]
    taken = take_messages(amqp, "local")
    assert sorted(document["recipient"] for document, _ in taken) == ["b@local.example", "d@local.example"]
    assert take_messages(amqp, "inbox") == []
    take_messages(amqp, "records")


def test_large_local_mail_rides_in_the_message(inbox: Inbox, amqp: str) -> None:
    assert send(inbox, "b@local.example", content=LARGE).startswith("250-2.0.0 ")

    ((document, _),) = take_messages(amqp, "local")
    assert "key" not in document
    assert without_received(content_of(document)) == LARGE
    payloads = Path(inbox.environment["STORAGE_URL"].removeprefix("dir://"))
    assert not [path for path in payloads.rglob("*") if path.is_file() and document["transaction"] in path.name]
    take_messages(amqp, "records")


def test_octets_that_are_no_utf8(inbox: Inbox, amqp: str) -> None:
    content = b"Subject: x\r\n\r\n" + bytes(set(range(256)) - {0, 10, 13}) + b"\r\n"
    assert send(inbox, "b@local.example", content=content).startswith("250-2.0.0 ")
    ((document, _),) = take_messages(amqp, "local")
    assert without_received(content_of(document)) == content
    take_messages(amqp, "records")


def test_a_client_that_may_relay_sends_to_both(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, LOCAL_DOMAINS="local.example", RABBITMQ_LOCAL="local") as inbox:
        assert send(inbox, "b@local.example", "c@foreign.example", content=LARGE).count("250-2.0.0 ") == 2
        # Not read as a route, whoever sends it.
        assert send(inbox, "b%foreign.example@local.example").startswith("250-2.0.0 ")

    local, other = take_messages(vhost, "local"), take_messages(vhost, "inbox")
    assert [document["recipient"] for document, _ in local] == ["b@local.example", "b%foreign.example@local.example"]
    assert without_received(content_of(local[0][0])) == LARGE
    ((document, _),) = other
    assert (document["recipient"], "mime" in document) == ("c@foreign.example", False)
    payloads = Path(inbox.environment["STORAGE_URL"].removeprefix("dir://"))
    (path,) = (path for path in payloads.rglob("*") if path.is_file() and document["transaction"] in path.name)
    assert without_received(path.read_bytes()) == LARGE
    events = {record["recipient"]: properties.headers["event"] for record, properties in take_messages(vhost, "records")}
    assert events["c@foreign.example"] == "accepted"
    assert {events["b@local.example"], events["b%foreign.example@local.example"]} == {"success"}


@pytest.mark.parametrize("size", [140_000, 3_000_000], ids=["in memory", "streamed"])
def test_more_than_rabbitmq_takes_is_refused_and_harms_nobody(vhost: str, tmp_path: Path, size: int) -> None:
    settings = {"LOCAL_DOMAINS": "local.example", "RABBITMQ_LOCAL": "local", "LOCAL_MAX_MESSAGE": "65536"}
    content = b"Subject: x\r\n\r\n" + (b"\x01" * 70 + b"\r\n") * (size // 72)
    with run_inbox(tmp_path, vhost, **settings) as inbox, inbox.hello() as client:
        client.begin("b@local.example", "c@foreign.example").send(content + b".\r\n")
        assert client.reply() == "552 5.3.4 Larger than a local recipient can take"
        client.begin("c@foreign.example").send(content + b".\r\n")
        assert client.reply().startswith("250-2.0.0 ")
        client.begin("b@local.example").send(CONTENT + b".\r\n")
        assert client.reply().startswith("250-2.0.0 ")

    assert len(take_messages(vhost, "local")) == len(take_messages(vhost, "inbox")) == 1
    payloads = [path for path in (tmp_path / "payloads").rglob("*") if path.is_file() and path.stat().st_size]
    assert len(payloads) == 1, "that of the foreign recipient alone"


def test_without_the_key_local_mail_is_routed_by_rules(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, **STRANGERS, LOCAL_DOMAINS="local.example", LOCAL_ROUTED="true") as inbox:
        assert send(inbox, "b@local.example").startswith("250-2.0.0 ")
        assert inbox.stop() == 0  # nobody waits for records but a process that stops
    ((document, _),) = take_messages(vhost, "inbox")
    assert document["recipient"] == "b@local.example"
    ((_, properties),) = take_messages(vhost, "records")
    assert properties.headers["event"] == "accepted"


# --- Postgres, files, commands


def put(database: str, *names: str) -> None:
    """Into the table, as json-inbox and the command do."""
    with psycopg.connect(database, autocommit=True) as connection:
        for name in names:
            connection.execute("INSERT INTO locals (name, document, created_at, updated_at) VALUES (%s, '{}', 0, 0)", [name])


def test_they_follow_postgres_and_stay_without_it(
    servers: Stack, vhost: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = tmp_path / "state" / "locals.json"
    settings = {**STRANGERS, "RABBITMQ_LOCAL": "local", "LOCALS_SNAPSHOT": str(snapshot), "LOCAL_DOMAINS": "own.example"}
    monkeypatch.setenv("DB_URI", database)
    run = Command(capsys)
    with run_inbox(tmp_path, vhost, **settings, DB_URI=database) as inbox:
        assert ask(inbox, "b@local.example").startswith("550 5.7.1 ")
        assert run("locals", "add", "Local.example")[1] == "added local recipient 'local.example'\n"
        wait_until(lambda: ask(inbox, "b@local.example").startswith("250 "), within=5)
        assert send(inbox, "b@local.example").startswith("250-2.0.0 ")
        # What cannot be read, written by hand, takes no mail and leaves the others alone.
        put(database, "*", "third.example")
        wait_until(lambda: ask(inbox, "b@third.example").startswith("250 "), within=5)
        assert ask(inbox, "b@foreign.example").startswith("550 5.7.1 ")
        assert ask(inbox, "b@local.example").startswith("250 ")
        assert run("locals", "remove", "THIRD.example")[1] == "removed local recipient 'third.example'\n"
        wait_until(lambda: ask(inbox, "b@third.example").startswith("550 "), within=5)
        assert inbox.metric("smtp_inbox_locals") == 1
        assert inbox.stop() == 0

    with run_inbox(tmp_path, vhost, **settings, DB_URI=NOWHERE) as inbox:
        assert ask(inbox, "b@local.example").startswith("250 ")
        assert ask(inbox, "b@own.example").startswith("250 ")
        assert ask(inbox, "b@third.example").startswith("550 ")
    snapshot.unlink()
    with run_inbox(tmp_path, vhost, **settings, DB_URI=NOWHERE) as inbox:
        assert ask(inbox, "b@local.example").startswith("550 ")
        assert send(inbox, "b@own.example").startswith("250-2.0.0 ")
    assert len(take_messages(vhost, "local")) == 2


def test_a_file_is_read_again_on_sighup(vhost: str, tmp_path: Path) -> None:
    path = tmp_path / "domains.txt"
    path.write_text("# ours\nlocal.example\n")
    with run_inbox(tmp_path, vhost, **STRANGERS, LOCAL_DOMAINS=f"@{path}", RABBITMQ_LOCAL="local") as inbox:
        assert ask(inbox, "b@local.example").startswith("250 ")
        path.write_text("local.example\nnew.example\n")
        os.kill(inbox.process.pid, signal.SIGHUP)
        wait_until(lambda: ask(inbox, "b@new.example").startswith("250 "), within=5)
        path.write_text("*.com\n")
        os.kill(inbox.process.pid, signal.SIGHUP)
        wait_until(lambda: "going on with the last local recipients" in inbox.log(), within=5)
        assert ask(inbox, "b@new.example").startswith("250 ")
        assert ask(inbox, "b@foreign.com").startswith("550 ")


def test_over_http(servers: Stack, database_template: str, tmp_path: Path) -> None:
    with run_json_inbox(servers, database_template, tmp_path / "payloads") as desk:
        made = desk.http.post("/v1/locals", json={"name": "Example.COM", "reason": "ours"})
        assert (made.status_code, made.headers["location"]) == (201, "/v1/locals/example.com")
        regex = "/(a|b)@example\\.net/"
        assert desk.http.post("/v1/locals", json=["*.bücher.example", regex]).json() == {"added": 2, "replaced": 0}
        names = [one["name"] for one in desk.http.get("/v1/locals").json()]
        assert sorted(names) == sorted(["example.com", "*@*.xn--bcher-kva.example", regex])
        assert desk.http.get("/v1/locals/EXAMPLE.com").json()["reason"] == "ours"
        for body, reason in (({"name": "*"}, "strangers"), ({"name": "/.*/"}, "strangers"), ({"name": "a b"}, "letters")):
            answer: httpx.Response = desk.http.post("/v1/locals", json=body)
            assert (answer.status_code, answer.json()["field"]) == (422, "name")
            assert reason in answer.json()["detail"]
        assert desk.http.delete(f"/v1/locals/{regex.replace('/', '%2F')}").status_code == 204
        assert desk.http.delete("/v1/locals/example.com").status_code == 204
        assert len(desk.http.get("/v1/locals").json()) == 1


def test_the_command(database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setenv("DB_URI", database)
    run = Command(capsys)
    assert run("locals", "list") == (0, "no local recipients\n", "")
    assert run("locals", "add", "Example.com", "b-*@example.net", "--reason", "ours")[0] == 0
    file = tmp_path / "list.txt"
    file.write_text("# more\n\ninfo@example.org\n/x@example\\.org/\n")
    assert run("locals", "add", "--file", str(file))[1].count("added local recipient") == 2
    heads, *rows = run("locals", "list")[1].splitlines()
    assert heads.split() == ["name", "kind", "reason"]
    assert sorted(row.split()[1] for row in rows) == ["address", "domain", "regex", "wildcard"]
    raw = json.loads(run("locals", "list", "--raw")[1])
    assert {"name": "example.com", "reason": "ours"} in raw
    for wrong, told in (
        (["add"], "NAME is missing"),
        (["add", "*"], "local recipient: name: '*': would take the domains of strangers"),
        (["add", "x", "--file", str(file)], "either NAME or --file"),
    ):
        code, _, errors = run("locals", *wrong)
        assert (code, told in errors) == (2, True), errors
    assert run("locals", "remove", "EXAMPLE.com", "nobody.example")[0] == 1
    assert len(json.loads(run("locals", "list", "--raw")[1])) == 3


# --- what it does not start with


def start_wrong(tmp_path: Path, amqp: str, **settings: str) -> str:
    """The line that the process ends with."""
    inbox = Inbox({"RABBITMQ_ADDRESS": amqp, "STORAGE_URL": f"dir://{tmp_path}/payloads", **settings}, tmp_path / "log")
    assert inbox.process.wait(30) == 2
    return inbox.log()


def test_local_mail_must_go_somewhere(vhost: str, database: str, tmp_path: Path) -> None:
    assert "would be sent to ourselves: expected the key rabbitmq-local" in start_wrong(
        tmp_path, vhost, LOCAL_DOMAINS="l.example"
    )
    with_rules: dict[str, Any] = {
        "LOCAL_DOMAINS": "l.example",
        "DB_URI": database,
        "LOCALS_SNAPSHOT": str(tmp_path / "locals.json"),
    }
    assert "no rule takes mail for l.example" in start_wrong(tmp_path, vhost, **with_rules)
    configuration = {
        "params": {"recipient_domain": "l.example"},
        "outbound": ["smtp"],
        "rewrite": {"smarthost": {"hostname": "m.l"}},
    }
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO delivery_configurations (name, priority, configuration, created_at, updated_at) VALUES ('l', 1, %s, 0, 0)",
            [json.dumps(configuration)],
        )
    with run_inbox(tmp_path, vhost, **STRANGERS, **with_rules) as inbox:
        assert send(inbox, "b@l.example").startswith("250-2.0.0 ")
    with run_inbox(tmp_path, vhost, **{**with_rules, "DB_URI": NOWHERE}) as inbox:
        assert send(inbox, "b@l.example").startswith("250-2.0.0 ")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"RABBITMQ_REFUSED": "outbox"}, "rabbitmq-refused: 'outbox': is rabbitmq-outbox, too"),
        (
            {"RABBITMQ_LOCAL": "nowhere", "RABBITMQ_DECLARE": "false"},
            "no queue is bound to exchange 'mailwarren' with key 'nowhere'",
        ),
        ({"LOCAL_DOMAINS": "*.com"}, "local-domains: '*.com': would take the domains of strangers"),
        ({"INBOUND_SMTP_LISTEN": "relay://0.0.0.0:0"}, "smtp-range: holds no client beyond loopback"),
    ],
    ids=["a key of ours", "a key that leads nowhere", "everybody", "nobody"],
)
def test_settings_that_are_refused(servers: Stack, vhost: str, tmp_path: Path, settings: dict[str, str], told: str) -> None:
    servers.declare_topology(vhost)
    assert told in start_wrong(tmp_path, vhost, RABBITMQ_API=servers.rabbitmq.api, **settings)


def test_local_mail_is_final_in_the_records(pipeline: Stack) -> None:
    pipeline.start("smtp-inbox", SMTP_RANGE="192.0.2.0/24", LOCAL_DOMAINS="local.example", RABBITMQ_LOCAL="local")
    pipeline.start("result-recorder")
    port = pipeline.env["SMTP_INBOX_ADDRESS"].rpartition(":")[2]
    with Client(int(port)) as client:
        client.greet().begin("b@local.example").send(CONTENT + b".\r\n")
        assert client.reply().startswith("250-2.0.0 ")

    def statuses() -> list[tuple[Any, ...]]:
        with psycopg.connect(pipeline.env["DB_URI"]) as connection:
            return connection.execute("SELECT recipient, status, state FROM message_status").fetchall()

    assert wait_until(statuses, within=20) == [("b@local.example", "delivered", "message")]
    with psycopg.connect(pipeline.env["DB_URI"]) as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (0,)
