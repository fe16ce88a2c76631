"""seal-sender as a process of its own, with a real RabbitMQ, message store and seal service."""

import asyncio
import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.stack import Stack
from tests.support.background import Background
from tests.support.ledger import Mail
from tests.support.queues import Got, Queues
from tests.support.seal_service import SealService
from tests.support.service import ServiceProcess
from tests.support.waiting import free_ports, wait_until

MIME = "From: a@example.org\r\nSubject: secret\r\n\r\nhi\r\n"


@dataclass(frozen=True)
class Sealing:
    """A running seal-sender and what is around it."""

    process: ServiceProcess
    service: SealService
    queues: Queues
    store: Path
    database: str


@pytest.fixture(scope="module")
def running(servers: Stack, database_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealing]:
    """One process and one seal service for the whole module."""
    name = f"seal_sender_{uuid.uuid4().hex[:12]}"
    address = servers.rabbitmq.create_vhost(name)
    servers.declare_topology(address)
    store = tmp_path_factory.mktemp("payloads")
    database = servers.postgres.create_database(name, template=database_template)
    with Background() as background:
        service = background.enter(SealService(tmp_path_factory.mktemp("ledger"), token="right"))
        settings = settings_of(address, service.url, store) | {"RABBITMQ_API": servers.rabbitmq.api}
        settings |= {"DB_URI": database, "STOPS_SNAPSHOT": str(tmp_path_factory.mktemp("stops"))}
        with ServiceProcess("seal-sender", settings) as process:
            yield Sealing(process, service, Queues(address), store, database)
    servers.rabbitmq.drop_vhost(name)
    servers.postgres.drop_database(name)


def settings_of(address: str, url: str, store: Path) -> dict[str, str]:
    return {
        "RABBITMQ_ADDRESS": address,
        "STORAGE_URL": f"dir://{store}",
        "OUTBOUND_SEAL_ADDR": url,
        "OUTBOUND_SEAL_TOKEN": "right",
        "OUTBOUND_SEAL_TIMEOUT": "2",
        "RETRY_INTERVAL": "5",
        "HOLD_TIME": "0.2",
    }


@pytest.fixture
def sealing(running: Sealing) -> Sealing:
    """The process, with empty queues."""
    for queue in ("success", "failures", "records", "dead", "outbox"):
        running.queues.take(queue)
    return running


def message(recipient: str, **properties: Any) -> dict[str, Any]:
    return {"recipient": recipient, "envelope": "from@example.org", "mime": MIME} | properties


def ours(recipient: str, **properties: Any) -> dict[str, Any]:
    """A message as our own processes publish it."""
    ident = str(uuid.uuid4())
    seen = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    made = {"id": ident, "transaction": ident, "recipients-total": 1, "channel": "json", "seen": seen}
    return message(recipient) | made | properties


def wait_for(sealing: Sealing, queue: str, count: int = 1, within: float = 20) -> list[Got]:
    wait_until(lambda: sealing.queues.count(queue) == count, within=within, what=f"{count} in {queue}")
    return sealing.queues.take(queue)


def mails_of(sealing: Sealing, recipient: str) -> list[Mail]:
    return sealing.service.ledger.by_recipient().get(recipient, [])


def test_accepted_is_the_success(sealing: Sealing) -> None:
    sealing.queues.publish(message("ok+one@example.org", unknown=[1]), key="seal")
    [got] = wait_for(sealing, "success")
    assert got.headers["event"] == "success"
    assert got.document["unknown"] == [1]
    assert "mime" not in got.document
    [attempt] = got.document["results"]
    assert (attempt["state"], attempt["result"], attempt["attempt"]) == ("message", "accepted", 1)
    assert (attempt["code"], attempt["status"], attempt["strategy"]) == (250, "2.0.0", "seal")
    assert (attempt["from"], attempt["to"]) == ("127.0.0.1", "127.0.0.1")
    [mail] = mails_of(sealing, "ok+one@example.org")
    assert mail.content == MIME.encode()
    assert mail.reverse_path == "from@example.org"
    assert mail.extra["idempotency_key"] == got.document["id"]
    assert attempt["description"] == f"sealed as {mail.extra['id']}"
    [record] = wait_for(sealing, "records")
    assert record.document["id"] == got.document["id"]


def test_header_edits_are_sealed(sealing: Sealing) -> None:
    sealing.queues.publish(message("ok+edits@example.org", headers={"prepend": {"X-First": "1"}}), key="seal")
    [got] = wait_for(sealing, "success")
    assert got.document["extracted"]["headers"]["x-first"] == "1"
    [mail] = mails_of(sealing, "ok+edits@example.org")
    assert mail.content == b"X-First: 1\r\n" + MIME.encode()


def test_the_null_reverse_path_is_an_empty_header(sealing: Sealing) -> None:
    sealing.queues.publish(message("ok+null@example.org", envelope=""), key="seal")
    wait_for(sealing, "success")
    assert mails_of(sealing, "ok+null@example.org")[0].reverse_path == ""


@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        ("reject-400@example.org", 554),
        ("reject-413@example.org", 552),
        ("reject-415@example.org", 554),
        ("reject@example.org", 554),
    ],
)
def test_a_permanent_refusal_is_the_failure(sealing: Sealing, recipient: str, code: int) -> None:
    sealing.queues.publish(message(recipient), key="seal")
    [got] = wait_for(sealing, "failures")
    [attempt] = got.document["results"]
    assert (attempt["state"], attempt["result"], attempt["code"]) == ("message", "error", code)
    assert "asked for this refusal" in attempt["description"]
    assert mails_of(sealing, recipient) == []


def stop(sealing: Sealing, table: str, name: str, **document: Any) -> None:
    """Keep an entry of a stop list, and wait until the process knows."""
    now = int(datetime.now(UTC).timestamp())
    statement = sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s)").format(sql.Identifier(table))
    with psycopg.connect(sealing.database) as connection:
        connection.execute(statement, [name, Jsonb(document), now, now])
    gauge = f"stops_{'forced_errors' if table == 'errors' else table} 1.0"
    wait_until(lambda: gauge in httpx.get(f"http://{sealing.process.metrics}/metrics").text, what=gauge)


def test_suppressions_pauses_and_forced_errors_hold_here_too(sealing: Sealing) -> None:
    stop(sealing, "suppressions", "suppressed@example.org", reason="unsubscribed")
    stop(sealing, "errors", "forced", destination="forced.example", code=550, description="Called back")
    stop(sealing, "pauses", "paused", destination="paused.example")
    for recipient in ("suppressed@example.org", "ok@forced.example", "ok@paused.example"):
        sealing.queues.publish(message(recipient), key="seal")
    failures = wait_for(sealing, "failures", 2)
    told = {got.document["recipient"]: got.document["results"][0] for got in failures}
    assert told["suppressed@example.org"]["state"] == "suppression"
    assert (told["ok@forced.example"]["code"], told["ok@forced.example"]["description"]) == (550, "Called back")
    wait_until(lambda: "paused_messages_total 1.0" in httpx.get(f"http://{sealing.process.metrics}/metrics").text)
    with psycopg.connect(sealing.database) as connection:
        connection.execute("DELETE FROM pauses")
    [got] = wait_for(sealing, "success", within=30)
    assert (got.document["recipient"], len(got.document["results"])) == ("ok@paused.example", 1)
    assert not mails_of(sealing, "suppressed@example.org")
    assert not mails_of(sealing, "ok@forced.example")


def test_a_refusal_for_now_is_tried_again(sealing: Sealing) -> None:
    sealing.queues.publish(message("grey-1+again@example.org"), key="seal")
    [got] = wait_for(sealing, "success", within=30)
    first, second = got.document["results"]
    assert (first["state"], first["result"], first["code"], first["attempt"]) == ("message", "error", 451, 1)
    assert (second["result"], second["attempt"]) == ("accepted", 2)
    assert len(mails_of(sealing, "grey-1+again@example.org")) == 1
    assert [one.headers["event"] for one in sealing.queues.take("records")] == ["retry", "success"]
    assert sealing.queues.count("outbox") == 0


def test_a_lost_answer_makes_no_second_copy(sealing: Sealing) -> None:
    sealing.queues.publish(message("lostreply-1@example.org"), key="seal")
    [got] = wait_for(sealing, "success", within=30)
    assert len(got.document["results"]) == 2
    assert len(mails_of(sealing, "lostreply-1@example.org")) == 1


def test_the_same_mail_twice_makes_no_second_copy(sealing: Sealing) -> None:
    mail = ours("ok+twice@example.org")
    sealing.queues.publish(mail, key="seal", app_id="mailwarren")
    [result] = wait_for(sealing, "success")
    assert result.document["id"] == mail["id"]
    sealing.queues.publish(mail, key="seal", app_id="mailwarren")
    wait_until(lambda: "\njournal_doubles_total 1.0\n" in sealing.process.get("/metrics")[1], what="the double to be dropped")
    assert sealing.queues.count("success") == sealing.queues.count("seal") == 0
    assert len(mails_of(sealing, "ok+twice@example.org")) == 1


def test_no_answer_in_time(sealing: Sealing) -> None:
    sealing.queues.publish(message("silent@example.org", maxattempts=1), key="seal")
    [got] = wait_for(sealing, "failures")
    [attempt] = got.document["results"]
    assert (attempt["state"], attempt["result"], attempt["code"]) == ("message", "timeout", 451)
    assert attempt["possible-duplicate"] is True


def test_our_own_misconfiguration_holds_the_mail_and_rings(sealing: Sealing) -> None:
    sealing.queues.publish(message("misconfigured-403@example.org"), key="seal")
    wait_until(lambda: sealing.queues.count("wait.30s") == 1, what="the mail to wait")
    assert "\nseal_misconfigured 1.0\n" in sealing.process.get("/metrics")[1]
    assert sealing.queues.count("failures") == sealing.queues.count("records") == 0
    sealing.queues.take("wait.30s")
    sealing.queues.publish(message("ok+after@example.org"), key="seal")
    wait_for(sealing, "success")
    assert "\nseal_misconfigured 0.0\n" in sealing.process.get("/metrics")[1]


def test_the_wrong_token_holds_every_mail(servers: Stack, vhost: str, running: Sealing, tmp_path: Path) -> None:
    servers.declare_topology(vhost)
    queues = Queues(vhost)
    with ServiceProcess(
        "seal-sender", settings_of(vhost, running.service.url, tmp_path) | {"OUTBOUND_SEAL_TOKEN": "hunter2"}
    ) as process:
        queues.publish(message("ok@example.org"), key="seal")
        wait_until(lambda: queues.count("wait.30s") == 1, what="the mail to wait")
        assert "hunter2" not in process.log
    assert queues.count("failures") == queues.count("success") == queues.count("records") == 0


@pytest.mark.parametrize(
    ("change", "state", "result"),
    [
        ({"recipient": "a@@b"}, "process", "invalid"),
        ({"recipient": "a@b.example\r\nX-Seal-Recipient: c@d.example"}, "process", "invalid"),
        ({"mime": 5}, "process", "invalid"),
        ({"mime": None}, "process", "invalid"),
        ({"mime": None, "key": "v1/mine"}, "process", "invalid"),
        ({"mime": {"subject": "no author"}}, "responsive", "error"),
        ({"queues": {"failure": "seal"}}, "process", "invalid"),
        ({"maxdelivertime": "2020-01-01 00:00:00"}, "process", "timeout"),
        ({"headers": {"remove": "X Y"}}, "process", "invalid"),
    ],
)
def test_mail_that_cannot_be_sent_fails_at_once(sealing: Sealing, change: dict[str, Any], state: str, result: str) -> None:
    sealing.queues.publish(message("never@example.org") | change, key="seal")
    [got] = wait_for(sealing, "failures")
    [attempt] = got.document["results"]
    assert (attempt["state"], attempt["result"], attempt["strategy"]) == (state, result, "seal")
    assert 500 <= attempt["code"] < 600
    assert mails_of(sealing, "never@example.org") == []


def test_a_body_that_is_no_message_is_parked(sealing: Sealing) -> None:
    sealing.queues.publish(b"not JSON", key="seal")
    [got] = wait_for(sealing, "dead")
    assert (got.body, got.headers["origin-queue"]) == (b"not JSON", "seal")


def test_content_from_the_store_is_checked(sealing: Sealing) -> None:
    content = MIME.encode() + b"\xff stored\r\n"
    digest = hashlib.sha256(content).hexdigest()
    keys = [f"v1/2026/11/23/{uuid.uuid4()}" for _ in range(2)]
    for key, written in zip(keys, (content, content[:-3]), strict=True):
        asyncio.run(_store(sealing.store, key, written))
    for recipient, key in (("stored", keys[0]), ("damaged", keys[1]), ("missing", f"v1/2026/11/23/{uuid.uuid4()}")):
        mail = ours(f"{recipient}@example.org", key=key, sha256=digest)
        del mail["mime"]
        sealing.queues.publish(mail, key="seal", app_id="mailwarren")
    [sent] = wait_for(sealing, "success")
    assert sent.document["recipient"] == "stored@example.org"
    assert mails_of(sealing, "stored@example.org")[0].content == content
    failed = {got.document["recipient"]: got.document["results"][-1] for got in wait_for(sealing, "failures", 2)}
    assert (failed["damaged@example.org"]["state"], failed["damaged@example.org"]["result"]) == ("storage", "invalid")
    assert (failed["missing@example.org"]["state"], failed["missing@example.org"]["result"]) == ("storage", "error")


def test_mail_that_is_not_due_waits_and_comes_back_to_us(sealing: Sealing) -> None:
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=8)
    sealing.queues.publish(message("ok+later@example.org", delayed=due.strftime("%Y-%m-%d %H:%M:%S")), key="seal")
    wait_until(lambda: sealing.queues.count("wait.5s") == 1, what="the mail to wait")
    assert mails_of(sealing, "ok+later@example.org") == []
    wait_for(sealing, "success", within=25)
    [mail] = mails_of(sealing, "ok+later@example.org")
    assert mail.time >= due


def test_a_refused_mail_goes_to_the_next_strategy_of_its_chain(sealing: Sealing) -> None:
    sealing.queues.publish(ours("reject+chain@example.org", outbound=["smtp"]), key="seal", app_id="mailwarren")
    [handed] = wait_for(sealing, "outbox")
    assert handed.document["outbound"] == []
    assert handed.document["mime"] == MIME
    assert len(handed.document["results"]) == 1
    assert sealing.queues.count("failures") == 0


def test_mail_that_asks_for_smtp_is_handed_over_unattempted(sealing: Sealing) -> None:
    sealing.queues.publish(ours("ok+smtp@example.org", strategy="smtp"), key="seal", app_id="mailwarren")
    [handed] = wait_for(sealing, "outbox")
    assert "results" not in handed.document
    assert mails_of(sealing, "ok+smtp@example.org") == []


def test_an_unreachable_service_is_an_attempt(servers: Stack, vhost: str, tmp_path: Path) -> None:
    servers.declare_topology(vhost)
    queues = Queues(vhost)
    with ServiceProcess("seal-sender", settings_of(vhost, f"http://127.0.0.1:{free_ports(1)[0]}", tmp_path)):
        queues.publish(message("ok@example.org", maxattempts=1), key="seal")
        wait_until(lambda: queues.count("failures") == 1, what="the failure")
    [attempt] = queues.take("failures")[0].document["results"]
    assert (attempt["state"], attempt["result"], attempt["code"], attempt["status"]) == ("connect", "error", 451, "4.4.1")


def test_idle_memory_stays_below_90_mb(servers: Stack, vhost: str, tmp_path: Path) -> None:
    servers.declare_topology(vhost)
    with ServiceProcess("seal-sender", settings_of(vhost, "http://127.0.0.1:1", tmp_path)) as process:
        status = Path(f"/proc/{process.pid}/status").read_text()
    [memory] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")]
    assert memory < 90 * 1024


async def _store(folder: Path, key: str, content: bytes) -> None:
    from shared.storage.directory import DirectoryStore

    store = DirectoryStore(folder)
    await store.store(key, content)
    await store.close()
