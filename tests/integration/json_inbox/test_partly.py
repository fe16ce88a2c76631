"""json-inbox when only a part of a request gets through: its client is told so, and what is sent again is sent once."""

import json
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pika
import psycopg
import pytest

from tests.integration.json_inbox_process import JSON, LINES, message, settings_of, start
from tests.stack import Stack
from tests.support.queues import Queues
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Narrow:
    """A json-inbox whose queue takes one message, and refuses a second one."""

    http: httpx.Client
    queues: Queues
    accepted: Path
    """Where it remembers."""

    def send_until_accepted(self, path: str, content: bytes, headers: dict[str, str]) -> tuple[list[str], httpx.Response]:
        """The ids in the order in which they came through the queue, and the last answer."""
        ids: list[str] = []
        for _ in range(6):
            answer = self.http.post(path, content=content, headers=headers)
            ids += [got.document["id"] for got in self.queues.take("narrow")]
            if answer.status_code == 202:
                return ids, answer
            assert (answer.status_code, answer.json()["status"], "retry-after" in answer.headers) == (503, 503, True)
            assert "messages were accepted: send again within an hour, and those are not sent twice" in answer.json()["detail"]
        raise AssertionError(answer.text)


@pytest.fixture(scope="module")
def narrow(servers: Stack, database_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Narrow]:
    name = f"json_inbox_{uuid.uuid4().hex[:12]}"
    address = servers.rabbitmq.create_vhost(name)
    servers.declare_topology(address)
    with closing(pika.BlockingConnection(pika.URLParameters(address))) as connection:
        channel = connection.channel()
        channel.queue_declare("narrow", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.queue_bind("narrow", "mailwarren", "narrow")
    database = servers.postgres.create_database(name, template=database_template)
    store = tmp_path_factory.mktemp("payloads")
    settings = settings_of(address, database, store) | {"RABBITMQ_INBOX": "narrow", "RABBITMQ_API": servers.rabbitmq.api}
    with start(settings), httpx.Client(base_url=f"http://{settings['HTTP_LISTEN']}", timeout=30) as client:
        yield Narrow(client, Queues(address), Path(settings["ACCEPTED_DIR"]))
    servers.postgres.drop_database(name)
    servers.rabbitmq.drop_vhost(name)


def lines(*mails: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(mail).encode() + b"\n" for mail in mails)


ONE, TWO = message("one@example.org"), message("two@example.org")
RECIPIENTS = {"recipients": ["one@example.org", "one@example.org", "two@example.org"], "mime": ONE["mime"]}
CASES: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "a list": ("/v1/messages", json.dumps([ONE, ONE, TWO]).encode(), JSON),
    "lines": ("/v1/inject", lines(ONE, ONE, TWO), LINES),
    "a stream": ("/v1/messages?partial=true", lines(ONE, ONE, TWO), LINES),
    "with a key": ("/v1/messages", json.dumps([ONE, ONE, TWO]).encode(), {**JSON, "Idempotency-Key": "partly"}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_was_accepted_of_a_request_is_not_sent_twice(narrow: Narrow, name: str) -> None:
    path, content, headers = CASES[name]
    ids, answer = narrow.send_until_accepted(path, content, headers)
    told = [json.loads(line) for line in answer.text.splitlines()][:-1] if "stream" in name else answer.json()["messages"]
    # The same mail twice in one request is two mails.
    assert Counter(one["recipient"] for one in told) == {"one@example.org": 2, "two@example.org": 1}
    assert len(ids) == len(set(ids)) == 3
    assert {one["id"] for one in told} == set(ids)
    assert list(narrow.accepted.iterdir()) == []

    # It was told now: the same once more is other mail, unless a key says that it is not.
    again, _ = narrow.send_until_accepted(path, content, headers)
    assert (len(again), set(again) & set(ids)) == ((0 if "key" in name else 3), set())


def test_another_request_is_another_one(narrow: Narrow) -> None:
    body = json.dumps([ONE, TWO]).encode()
    assert narrow.http.post("/v1/messages", content=body, headers=JSON).status_code == 503
    [first] = narrow.queues.take("narrow")
    # One that is not the same keeps nothing of the first.
    assert narrow.http.post("/v1/messages", json=ONE).status_code == 202
    [other] = narrow.queues.take("narrow")
    assert first.document["id"] != other.document["id"]
    ids, _ = narrow.send_until_accepted("/v1/messages", body, JSON)
    assert len(ids) == 1


def test_a_process_killed_before_it_kept_its_answer_sends_the_same_mail_again(
    servers: Stack, vhost: str, database: str, tmp_path: Path
) -> None:
    servers.declare_topology(vhost)
    queues = Queues(vhost)
    # The lease of a key is twice this.
    settings = settings_of(vhost, database, tmp_path / "payloads") | {"DATA_PROCESSING_TIMEOUT": "4"}
    body = message(mime={"from": "a@example.org", "text": "x", "content": "<p>x</p>"})
    headers = {"Idempotency-Key": "killed"}

    def ask(settings: dict[str, str]) -> httpx.Response:
        return httpx.post(f"http://{settings['HTTP_LISTEN']}/v1/messages", json=body, headers=headers, timeout=30)

    with psycopg.connect(database, autocommit=True) as connection:
        # The answer waits in Postgres for a lock that is never free.
        connection.execute(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER wait BEFORE UPDATE ON idempotent_requests FOR EACH ROW WHEN (NEW.status = 202) EXECUTE FUNCTION wait()"
        )
        connection.execute("SELECT pg_advisory_lock(7)")
        waiting = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
        with start(settings) as process, ThreadPoolExecutor(1) as pool:
            in_vain = pool.submit(ask, settings)
            wait_until(lambda: connection.execute(f"SELECT 1 {waiting}").fetchone(), what="the answer to wait in Postgres")
            assert queues.count("inbox") == 1
            process.signal(signal.SIGKILL)
            assert isinstance(in_vain.exception(timeout=10), httpx.TransportError)
        # As when its connection breaks: what it had asked of Postgres is not done.
        connection.execute(f"SELECT pg_terminate_backend(pid) {waiting}")
        wait_until(lambda: connection.execute(f"SELECT 1 {waiting}").fetchone() is None, what="its connection to end")
        connection.execute("DROP TRIGGER wait ON idempotent_requests")

    settings["HTTP_LISTEN"] = settings_of(vhost, database, tmp_path)["HTTP_LISTEN"]
    with start(settings):
        early = ask(settings)
        assert (early.status_code, early.json()["field"]) == (409, "Idempotency-Key")
        wait_until(lambda: ask(settings).status_code == 202, within=20, every=0.5, what="the lease to end")
        answer = ask(settings)
        assert (answer.status_code, answer.headers["idempotency-replayed"]) == (202, "true")
    first, second = (got.document for got in queues.take("inbox"))
    # A duplicate that a sender's journal knows.
    for name in ("id", "transaction", "mime", "sha256"):
        assert first[name] == second[name]
    assert answer.json()["messages"][0]["id"] == first["id"]
