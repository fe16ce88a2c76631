"""The process webhook on a real RabbitMQ and Postgres, with receivers that behave and others that do not."""

from __future__ import annotations

import base64
import subprocess
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import orjson
import psycopg
import pytest

from services.cli.__main__ import call
from shared.wire.times import render_time
from tests.stack import Stack
from tests.support.background import Background
from tests.support.queues import Queues
from tests.support.record_frames import make_mail, make_result
from tests.support.service import ServiceProcess
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import Post, Receiver

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@dataclass
class Desk:
    """A virtual host with both topology files, a database, a receiver, and what is needed to use them."""

    settings: dict[str, str]
    queues: Queues
    receiver: Receiver
    secrets: dict[str, str] = field(default_factory=dict)
    process: ServiceProcess | None = None

    @property
    def database(self) -> str:
        return self.settings["DB_URI"]

    def add(self, capsys: pytest.CaptureFixture[str], path: str, *options: str, mode: str = "ok") -> str:
        """``mailwarren webhooks add`` an endpoint at this path; its name. It is known to the process when this returns."""
        name = f"{path.strip('/')}-{uuid.uuid4().hex[:6]}"
        self.receiver.modes[f"/{name}"] = mode
        url = f"{self.receiver.url}/{name}"
        assert call(["webhooks", "add", name, "--url", url, *options, "--db-uri", self.database]) == 0
        self.secrets[name] = capsys.readouterr().out.strip()
        if self.process is not None:
            snapshot = Path(self.settings["WEBHOOK_SNAPSHOT"])
            wait_until(lambda: snapshot.exists() and name in snapshot.read_text(), within=10)
        return name

    def tell(self, event: str, *results: Mapping[str, Any], **properties: Any) -> str:
        """Publish the copy of a record as result-recorder does; the mail's id."""
        mail = make_mail(**properties) | ({"results": list(results)} if results else {})
        self.queues.publish(mail, key="webhook", headers={"event": event}, app_id="mailwarren")
        return str(mail["id"])

    def posts(self, name: str, count: int = 1, within: float = 15) -> list[Post]:
        """So many posts to an endpoint, as soon as they are there."""
        wait_until(lambda: len(self.receiver.at(f"/{name}")) >= count, within=within, what=f"{count} posts to {name}")
        return self.receiver.at(f"/{name}")

    def wait_for_row(self, name: str, is_so: Callable[[dict[str, Any]], bool]) -> None:
        """Until the document of an endpoint in Postgres is so."""
        wait_until(lambda: is_so(self.row(name)), within=15, what=f"the row of {name}")

    def row(self, name: str) -> dict[str, Any]:
        """The document of an endpoint in Postgres."""
        with psycopg.connect(self.database) as connection:
            found = connection.execute("SELECT document FROM webhooks WHERE name = %s", [name]).fetchone()
        assert found is not None
        document: dict[str, Any] = found[0]
        return document


def declare(servers: Stack, address: str, folder: Path) -> None:
    """Both files; the shortest wait queue keeps what it gets for a moment, so that a test need not wait for it."""
    quick = folder / "topology.json"
    quick.write_text((ROOT / "topology-webhook.json").read_text().replace('"x-message-ttl": 5000', '"x-message-ttl": 300'))
    for path in (ROOT / "topology.json", quick):
        with path.open("rb") as topology:
            servers.run_command(["amqpinit", address], stdin=topology.fileno())


@contextmanager
def open_desk(servers: Stack, database_template: str, folder: Path) -> Iterator[Desk]:
    name = f"webhook_{uuid.uuid4().hex[:12]}"
    address = servers.rabbitmq.create_vhost(name)
    declare(servers, address, folder)
    with Background() as background:
        settings = {
            "RABBITMQ_ADDRESS": address,
            "RABBITMQ_API": servers.rabbitmq.api,
            "DB_URI": servers.postgres.create_database(name, template=database_template),
            "WEBHOOK_SNAPSHOT": str(folder / f"{name}.json"),
            "WEBHOOK_BATCH_TIME": "0.1",
            "WEBHOOK_TIMEOUT": "1.5",
            "WEBHOOK_RETRY_INTERVAL": "1",
            "WEBHOOK_ALLOW_HTTP": "true",
            "WEBHOOK_ALLOW_PRIVATE": "127.0.0.1/32",
            "LOG_LEVEL": "debug",
        }
        yield Desk(settings, Queues(address), background.enter(Receiver()))
    servers.postgres.drop_database(name)
    servers.rabbitmq.drop_vhost(name)


@pytest.fixture(scope="module")
def desk(servers: Stack, database_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One process for the whole module; no secret is in its log."""
    with open_desk(servers, database_template, tmp_path_factory.mktemp("webhook")) as desk:
        with ServiceProcess("webhook", desk.settings) as desk.process:
            yield desk
            desk.process.signal(SIGTERM)
            assert desk.process.wait() == 0
            said = desk.process.log
        assert desk.secrets
        for secret in desk.secrets.values():
            assert secret.removeprefix("whsec_")[:20] not in said
        assert [message.body for message in desk.queues.take("dead")] == [b"hello"]


def sign_with_openssl(secret: str, post: Post) -> str:
    """``webhook-signature`` by another implementation."""
    key = base64.b64decode(secret.removeprefix("whsec_")).hex()
    content = f"{post.headers['webhook-id']}.{post.headers['webhook-timestamp']}.".encode() + post.body
    argv = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key}", "-binary"]
    return "v1," + base64.b64encode(subprocess.run(argv, input=content, capture_output=True, check=True).stdout).decode()


def test_everybody_gets_what_was_asked_for(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = [option for kind in ("accepted", "deferred", "delivered", "failed") for option in ("--event", kind)]
    every, usual = desk.add(capsys, "every", *kinds), desk.add(capsys, "usual")
    tagged = desk.add(capsys, "tagged", "--tag", "invoices", "--tag", "spring")
    mail = desk.tell("accepted", key="v1/2026/11/23/x", dkim={"key": "-----BEGIN PRIVATE KEY-----"})
    late = desk.tell("retry", make_result(1, "rcptto", "error", code=451))
    sent = desk.tell("success", make_result(), tags=["spring"])
    lost = desk.tell("failure", make_result(2, "rcptto", "error", code=550))
    wait_until(lambda: sum(len(post.ids) for post in desk.receiver.at(f"/{every}")) == 4, within=15)
    posts = desk.receiver.at(f"/{every}")
    events = {event["type"]: event for post in posts for event in post.events}
    assert {kind: event["id"] for kind, event in events.items()} == {
        "accepted": f"{mail}.0.accepted",
        "deferred": f"{late}.1.deferred",
        "delivered": f"{sent}.1.delivered",
        "failed": f"{lost}.2.failed",
    }
    assert events["failed"]["data"]["results"][-1]["code"] == 550
    assert {"key", "dkim", "mime"}.isdisjoint(events["accepted"]["data"])
    wait_until(lambda: sum(len(post.ids) for post in desk.receiver.at(f"/{usual}")) == 2, within=15)
    assert {one for post in desk.receiver.at(f"/{usual}") for one in post.ids} == {f"{sent}.1.delivered", f"{lost}.2.failed"}
    assert [post.ids for post in desk.posts(tagged)] == [[f"{sent}.1.delivered"]]
    for name in (every, usual, tagged):
        for post in desk.receiver.at(f"/{name}"):
            assert post.headers["content-type"] == "application/json"
            assert post.headers["webhook-signature"] == sign_with_openssl(desk.secrets[name], post)


def test_who_fails_gets_the_same_again_and_nobody_else_does(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    modes = {"500": "500", "429": "429 Retry-After: 1", "reset": "reset", "slow": "slow", "moved": "302 Location: /elsewhere"}
    failing = {desk.add(capsys, f"bad{title}", mode=mode): mode for title, mode in modes.items()}
    odd = {desk.add(capsys, title, mode=title) for title in ("endless",)}
    good = desk.add(capsys, "good")
    ident = desk.tell("success", make_result())
    for name in (*failing, *odd, good):
        desk.posts(name)
    for name in failing:
        desk.wait_for_row(name, lambda row: "failing_since" in row)
        desk.receiver.modes[f"/{name}"] = "ok"
    assert call(["webhooks", "list", "--db-uri", desk.database]) == 0
    listed = capsys.readouterr().out
    assert "it answered 302, and redirects are not followed" in listed
    assert "no answer in time" in listed
    for name in failing:
        posts = desk.posts(name, 2, within=25)
        assert posts[0].ids == [f"{ident}.1.delivered"]
        assert len({(post.headers["webhook-id"], post.body) for post in posts}) == 1
        assert posts[-1].headers["webhook-signature"] == sign_with_openssl(desk.secrets[name], posts[-1])
        desk.wait_for_row(name, lambda row: "failing_since" not in row)
    # An answer that says 200 and never ends is a 200.
    for name in (good, *odd):
        assert [post.ids for post in desk.receiver.at(f"/{name}")] == [[f"{ident}.1.delivered"]]
    assert desk.receiver.at("/elsewhere") == []


def test_one_event_that_is_refused_does_not_hold_up_the_others(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    name = desk.add(capsys, "picky", mode="422")
    mails = [make_mail() | {"results": [make_result()]} for _ in range(3)]
    for mail in mails:
        mail["tags"] = [name]
    body = b"[" + b",".join(orjson.dumps(mail) for mail in mails) + b"]"
    desk.queues.publish(body, key="webhook", headers={"event": "success"}, app_id="mailwarren")
    [together] = desk.posts(name)
    assert together.ids == [f"{mail['id']}.1.delivered" for mail in mails]
    desk.receiver.modes[f"/{name}"] = "ok"
    alone = desk.posts(name, 4)[1:]
    assert sorted(post.ids for post in alone) == sorted([f"{mail['id']}.1.delivered"] for mail in mails)
    assert len({post.headers["webhook-id"] for post in alone}) == 3


def test_one_that_is_gone_and_one_that_failed_for_a_day_are_disabled(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    gone, dead, young = (
        desk.add(capsys, title, mode=mode) for title, mode in (("gone", "410"), ("dead", "503"), ("young", "503"))
    )
    for name, hours in ((dead, 25), (young, 23)):
        since = render_time(datetime.now(UTC) - timedelta(hours=hours))
        with psycopg.connect(desk.database) as connection:
            connection.execute(
                "UPDATE webhooks SET document = document || jsonb_build_object('failing_since', %s::text) WHERE name = %s",
                [since, name],
            )
    desk.tell("success", make_result())
    for name in (gone, dead):
        desk.wait_for_row(name, lambda row: row["enabled"] is False)
    desk.posts(young)
    assert desk.row(young)["enabled"] is True
    assert desk.row(gone)["reason"] == "410 Gone: it wants nothing any more"
    assert desk.row(dead)["reason"] == "nothing was taken for 1 day, 0:00:00; the last: it answered 503"
    call(["webhooks", "list", "--db-uri", desk.database])
    assert "disabled since 20" in capsys.readouterr().out
    process = desk.process
    assert process is not None
    wait_until(lambda: f'webhook_disabled_total{{endpoint="{dead}"}} 1.0' in process.get("/metrics")[1], within=10)

    desk.receiver.modes[f"/{dead}"] = "ok"
    assert call(["webhooks", "enable", dead, "--db-uri", desk.database]) == 0
    assert {"disabled_at", "reason", "failing_since"}.isdisjoint(desk.row(dead))
    snapshot = Path(desk.settings["WEBHOOK_SNAPSHOT"])
    wait_until(lambda: next(one for one in _read(snapshot) if one["name"] == dead)["enabled"], within=10)
    later = desk.tell("success", make_result())
    # What happened while it was disabled stays away: it is in Postgres.
    assert desk.posts(dead, 2)[-1].ids == [f"{later}.1.delivered"]


def _read(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(path.read_text())
    return found


def test_what_postgres_keeps_is_replayed(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    name = desk.add(capsys, "replayed")
    now = int(datetime.now(UTC).timestamp())
    rows = [("old", "failed", now - 7200), ("sent", "delivered", now - 60), ("lost", "failed", now)]
    with psycopg.connect(desk.database) as connection:
        for ident, status, moment in rows:
            connection.execute(
                """
                INSERT INTO message_status (id, transaction, recipients_total, message_id, subject, sender, recipient, status,
                    destination, results, created_at, updated_at)
                VALUES (%s, 't', 1, 'm', 'Hello', 'a@a.example', 'b@b.example', %s, 'b.example', %s::jsonb, %s, %s)
                """,
                [ident, status, orjson.dumps([make_result(2)]).decode(), moment, moment],
            )
    arguments = ["webhooks", "replay", name, "--since", "1h", "--db-uri", desk.database]
    arguments += ["--rabbitmq-address", desk.settings["RABBITMQ_ADDRESS"]]
    assert call(arguments) == 0
    assert capsys.readouterr().out == f"replaying 2 events to {name!r}\n"
    [post] = desk.posts(name)
    assert post.ids == ["sent.2.delivered", "lost.2.failed"]
    assert post.events[0]["data"]["recipient"] == "b@b.example"


def test_what_is_no_record_is_parked(desk: Desk) -> None:
    desk.queues.publish(b"hello", key="webhook", app_id="mailwarren")
    wait_until(lambda: desk.queues.count("dead") == 1, within=15)


@pytest.mark.long
def test_killed_between_post_and_ack_it_posts_the_same_again_without_postgres(
    servers: Stack, database_template: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_desk(servers, database_template, tmp_path) as desk:
        with ServiceProcess("webhook", desk.settings | {"WEBHOOK_TIMEOUT": "60"}) as desk.process:
            name = desk.add(capsys, "slow", mode="slow")
            idents = [desk.tell("success", make_result()) for _ in range(3)]
            desk.posts(name)
            wait_until(lambda: sum(len(post.ids) for post in desk.receiver.at(f"/{name}")) == 3, within=15)
            desk.process.signal(SIGKILL)
            desk.process.wait()
        before = {(post.headers["webhook-id"], post.body) for post in desk.receiver.posts}
        desk.receiver.modes[f"/{name}"] = "ok"
        desk.receiver.posts.clear()
        # The last snapshot says where to: Postgres is not needed.
        with ServiceProcess("webhook", desk.settings | {"DB_URI": NOWHERE}) as desk.process:
            desk.posts(name, len(before))
            assert {(post.headers["webhook-id"], post.body) for post in desk.receiver.posts} == before
            assert {one for post in desk.receiver.posts for one in post.ids} == {f"{ident}.1.delivered" for ident in idents}
            desk.process.signal(SIGTERM)
            assert desk.process.wait() == 0
        assert [desk.queues.count(queue) for queue in ("webhook", "webhook.batches", "dead")] == [0, 0, 0]
