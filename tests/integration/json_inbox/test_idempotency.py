"""json-inbox: the same request twice is answered twice, and its mail is sent once."""

import asyncio
import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from shared.storage.database import DatabaseSettings, connect
from shared.storage.idempotency import (
    Answered,
    Claim,
    InWork,
    Taken,
    answer_request,
    claim_request,
    hand_back,
    sweep_requests,
    withdraw,
)
from tests.integration.json_inbox_process import Inbox, message, settings_of, start
from tests.stack import Stack
from tests.support.waiting import free_ports, wait_until


def key() -> dict[str, str]:
    return {"Idempotency-Key": f'"{uuid.uuid4()}"'}


def test_the_same_request_is_answered_again_and_done_once(inbox: Inbox) -> None:
    body = [message("a@example.org"), message("b@example.org", mime={"from": "a@example.org", "text": "x"}), message("nobody")]
    headers = key()
    first, again = (inbox.http.post("/v1/messages?partial=true", json=body, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert (first.headers.get("idempotency-replayed"), again.headers.get("idempotency-replayed")) == (None, "true")
    assert {got.document["id"] for got in inbox.queues.take("inbox")} == {one["id"] for one in first.json()["messages"]}
    assert len(inbox.queues.take("records")) == 2


def test_an_action_too(inbox: Inbox) -> None:
    action = {"action": "send", "recipient": "to@example.org", "subject": "hi", "body_text": "text"}
    headers = key()
    first, again = (inbox.http.post("/v1/actions", json=action, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code, again.content) == (202, 202, first.content)
    assert len(inbox.queues.take("inbox")) == 1
    assert inbox.http.post("/v1/actions", json={"action": "redrive"}, headers=key()).json()["field"] == "Idempotency-Key"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", message(subject="other")),
        ("/v1/messages?partial=true", message()),
        ("/v1/inject", message()),
        ("/v1/actions", message()),
    ],
    ids=["body", "query", "path", "call"],
)
def test_another_request_with_the_key_is_refused(inbox: Inbox, path: str, body: dict[str, Any]) -> None:
    headers = key()
    assert inbox.http.post("/v1/messages", json=message(), headers=headers).status_code == 202
    other = inbox.http.post(path, json=body, headers=headers)
    assert (other.status_code, other.json()["field"]) == (409, "Idempotency-Key")
    assert len(inbox.queues.take("inbox")) == 1


def test_what_is_refused_does_not_use_up_the_key(inbox: Inbox) -> None:
    headers = key()
    assert inbox.http.post("/v1/messages", json=message("nobody"), headers=headers).status_code == 422
    assert (
        inbox.http.post("/v1/messages", content=b"{", headers={"Content-Type": "application/json"} | headers).status_code == 400
    )
    assert inbox.http.post("/v1/messages", json=message(), headers=headers).status_code == 202
    assert len(inbox.queues.take("inbox")) == 1


def test_a_stream_takes_no_key(inbox: Inbox) -> None:
    lines = {"Content-Type": "application/x-ndjson"} | key()
    line = json.dumps(message()).encode()
    stream = inbox.http.post("/v1/messages?partial=true", content=line, headers=lines)
    assert (stream.status_code, stream.json()["field"]) == (400, "Idempotency-Key")
    assert inbox.http.post("/v1/messages", content=line, headers=lines).status_code == 202


async def test_of_many_at_once_one_is_done(inbox: Inbox) -> None:
    headers = key()
    async with httpx.AsyncClient(base_url=inbox.http.base_url, timeout=30) as client:
        answers = await asyncio.gather(*(client.post("/v1/messages", json=message(), headers=headers) for _ in range(12)))
        last = await client.post("/v1/messages", json=message(), headers=headers)
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert {answer.content for answer in answers if answer.status_code == 202} == {last.content}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status_code == 409)
    assert len(await inbox.queues.take_now("inbox")) == 1


def test_what_died_half_way_is_done_again_with_the_same_ids(inbox: Inbox) -> None:
    """As if the process had died after the confirm: the row says "in work", and the answer is not there."""
    headers = key()
    body = message(mime={"from": "a@example.org", "text": "x", "content": "<p>x</p>"})
    first = inbox.http.post("/v1/messages", json=body, headers=headers)
    forget = "UPDATE idempotent_requests SET status = NULL, answer = NULL WHERE key = %s"
    with psycopg.connect(inbox.database) as connection:
        connection.execute(forget, [headers["Idempotency-Key"]])
    waiting = inbox.http.post("/v1/messages", json=body, headers=headers)
    assert (waiting.status_code, waiting.json()["field"]) == (409, "Idempotency-Key")
    assert 0 < int(waiting.headers["retry-after"]) <= 120
    with psycopg.connect(inbox.database) as connection:
        connection.execute(
            "UPDATE idempotent_requests SET updated_at = updated_at - 120 WHERE key = %s", [headers["Idempotency-Key"]]
        )
    again = inbox.http.post("/v1/messages", json=body, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
    mails = [got.document for got in inbox.queues.take("inbox")]
    assert len(mails) == 2
    # A duplicate that can be recognised: same id, same bytes.
    for name in ("id", "transaction", "mime", "sha256"):
        assert mails[0][name] == mails[1][name]


def test_after_a_day_a_key_is_new(inbox: Inbox) -> None:
    headers = key()
    [first] = inbox.http.post("/v1/messages", json=message(), headers=headers).json()["messages"]
    claimed = int(time.time())
    with psycopg.connect(inbox.database) as connection:
        connection.execute(
            "UPDATE idempotent_requests SET created_at = created_at - 86401 WHERE key = %s", [headers["Idempotency-Key"]]
        )
    wait_until(lambda: int(time.time()) > claimed, what="a later second, as it is after a day")
    [second] = inbox.http.post("/v1/messages", json=message(), headers=headers).json()["messages"]
    # Other ids: a sender that knows the first one from its journal must not take this for a duplicate.
    assert second["id"] != first["id"]


def test_while_the_broker_refuses_the_key_stays_usable(inbox: Inbox) -> None:
    async def unbind(channel: Any) -> None:
        await channel.queue_unbind("inbox", "mailwarren", "inbox")

    async def bind(channel: Any) -> None:
        await channel.queue_bind("inbox", "mailwarren", "inbox")

    headers = key()
    inbox.queues.run(unbind)
    try:
        for _ in range(2):
            assert inbox.http.post("/v1/messages", json=message(), headers=headers).status_code == 503
    finally:
        inbox.queues.run(bind)
    assert inbox.http.post("/v1/messages", json=message(), headers=headers).status_code == 202
    assert len(inbox.queues.take("inbox")) == 1


def test_without_postgres_only_requests_with_a_key_must_wait(vhost: str, servers: Stack, tmp_path: Path) -> None:
    servers.declare_topology(vhost)
    settings = settings_of(vhost, f"postgresql://postgres@127.0.0.1:{free_ports(1)[0]}/none", tmp_path / "payloads")
    with start(settings), httpx.Client(base_url=f"http://{settings['HTTP_LISTEN']}", timeout=30) as client:
        answer = client.post("/v1/messages", json=message(), headers=key())
        assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        assert client.post("/v1/messages", json=message()).status_code == 202


def test_an_answer_that_could_not_be_kept_is_kept_later(inbox: Inbox) -> None:
    """Postgres becomes read-only while the mail is published: it is accepted all the same, and its answer is not forgotten."""
    headers = key()
    with psycopg.connect(inbox.database, autocommit=True) as connection:
        # Refuses the answer, as a read-only Postgres would.
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION USING ERRCODE = '25006', MESSAGE = 'read only'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON idempotent_requests FOR EACH ROW WHEN (NEW.status = 202) EXECUTE FUNCTION refuse()"
        )
        first = inbox.http.post("/v1/messages", json=message(), headers=headers)
        assert first.status_code == 202
        assert inbox.http.post("/v1/messages", json=message(), headers=headers).status_code == 409
        connection.execute("DROP TRIGGER refuse ON idempotent_requests")

    def is_kept() -> bool:
        again = inbox.http.post("/v1/messages", json=message(), headers=headers)
        assert again.status_code in (202, 409)
        return again.status_code == 202 and again.content == first.content

    wait_until(is_kept, within=20, what="the answer to be kept")
    assert len(inbox.queues.take("inbox")) == 1


NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
LEASE = timedelta(seconds=120)


async def test_the_life_of_a_key(database: str) -> None:
    async with await connect(DatabaseSettings(db_uri=database)) as connection:

        async def claim(token: str = "t", digest: str = "d", after: int = 0) -> Claim | Answered | InWork | Taken:
            return await claim_request(connection, token, "k", digest, now=NOW + timedelta(seconds=after), lease=LEASE)

        first = await claim()
        assert isinstance(first, Claim)
        assert await claim(after=20) == InWork(100)
        assert await claim(digest="other", after=20) == Taken()
        other = await claim(token="u")
        assert isinstance(other, Claim)
        assert other.seed != first.seed
        # The lease is over: taken over, with what makes the same ids; and once only.
        assert await claim(after=120) == first
        assert await claim(after=121) == InWork(119)
        await hand_back(connection, first)
        assert await claim(after=122) == first
        await answer_request(connection, first, 202, '{"a": "\\u0000"}', now=NOW)
        assert await claim(after=123) == Answered(202, '{"a": "\\u0000"}')
        await withdraw(connection, first)
        await hand_back(connection, first)
        assert await claim(after=86_400) == Answered(202, '{"a": "\\u0000"}')
        second = await claim(after=86_401)
        assert isinstance(second, Claim)
        assert second.seed != first.seed
        # Whoever still holds the old claim changes nothing any more.
        await answer_request(connection, first, 202, "late", now=NOW)
        assert isinstance(await claim(after=86_402), InWork)
        await withdraw(connection, second)
        assert isinstance(await claim(after=86_403), Claim)


async def test_old_answers_are_removed(database: str) -> None:
    async with await connect(DatabaseSettings(db_uri=database)) as connection:
        for number, age in enumerate((0, 86_399, 86_401, 90_000)):
            claimed = await claim_request(connection, "t", str(number), "d", now=NOW - timedelta(seconds=age), lease=LEASE)
            assert isinstance(claimed, Claim)
        assert await sweep_requests(connection, now=NOW) == 2
        assert await sweep_requests(connection, now=NOW) == 0
        rows = await (await connection.execute("SELECT key FROM idempotent_requests ORDER BY key")).fetchall()
        assert rows == [("0",), ("1",)]
