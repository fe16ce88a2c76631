"""json-inbox when something of ours is down, when it is stopped, and how much it needs."""

import json
import signal
import socket
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from tests.integration.json_inbox_process import JSON, MIME, Inbox, message, settings_of, start
from tests.stack import Stack
from tests.support.queues import Queues
from tests.support.waiting import free_ports, wait_until


def test_an_action_is_held_while_the_store_is_down_and_done_afterwards(inbox: Inbox) -> None:
    # Content over the threshold needs the store, and a file where a folder should be breaks it, for root too.
    action = {"action": "send", "recipient": "to@example.org", "subject": "hi", "body_text": "x\n" * 80_000}
    aside = inbox.store.with_name("aside")
    inbox.store.rename(aside)
    inbox.store.write_text("in the way")
    try:
        inbox.queues.publish(action, exchange="actions")
        wait_until(lambda: inbox.queues.count("wait.30s") == 1, what="the action to wait")
        assert inbox.http.post("/v1/messages", json=message(mime=MIME + "x\r\n" * 80_000)).status_code == 503
    finally:
        inbox.store.unlink()
        aside.rename(inbox.store)
    # The way home is the routing key it was parked with; a shorter wait queue shows that as well.
    [held] = inbox.queues.take("wait.30s")
    assert held.body == json.dumps(action, separators=(",", ":")).encode()
    inbox.queues.publish(held.body, exchange="wait.5s", key=held.key)
    wait_until(lambda: inbox.queues.count("inbox") == 1, within=20, what="the action to come back and be done")
    assert inbox.queues.count("dead") == 0
    assert inbox.http.post("/v1/messages", json=message(mime=MIME + "x\r\n" * 80_000)).status_code == 202


def test_a_key_without_a_queue_is_503_and_heals(inbox: Inbox, servers: Stack) -> None:
    async def unbind(channel: Any) -> None:
        await channel.queue_unbind("inbox", "mailwarren", "inbox")

    async def bind(channel: Any) -> None:
        await channel.queue_bind("inbox", "mailwarren", "inbox")

    inbox.queues.run(unbind)
    try:
        answer = inbox.http.post("/v1/messages", json=message())
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "mailwarren" not in answer.text
    finally:
        inbox.queues.run(bind)
    assert inbox.http.post("/v1/messages", json=message()).status_code == 202


def test_cut_connections_are_503_at_worst_and_heal(inbox: Inbox, servers: Stack) -> None:
    vhost = inbox.queues.address.rpartition("/")[2]

    def connections() -> list[str]:
        found = servers.rabbitmq.call_api("GET", "/api/connections")
        return [one["name"] for one in found if one.get("vhost") == vhost and "json-inbox" in str(one.get("client_properties"))]

    names = wait_until(connections, what="RabbitMQ to list our connections")
    for name in names:
        servers.rabbitmq.call_api("DELETE", f"/api/connections/{quote(name, safe='')}")
    codes = []

    def heals() -> bool:
        codes.append(inbox.http.post("/v1/messages", json=message()).status_code)
        return codes[-1] == 202

    wait_until(heals, within=20, what="mail to be accepted again")
    assert set(codes) <= {202, 503}
    inbox.queues.publish({"action": "dance"}, exchange="actions")
    wait_until(lambda: inbox.queues.count("dead") == 1, within=20, what="the consumer of actions to be back")


def test_mail_is_accepted_while_postgres_is_down(vhost: str, servers: Stack, tmp_path: Path) -> None:
    servers.declare_topology(vhost)
    settings = settings_of(vhost, f"postgresql://postgres@127.0.0.1:{free_ports(1)[0]}/none", tmp_path)
    with start(settings), httpx.Client(base_url=f"http://{settings['HTTP_LISTEN']}", timeout=30) as client:
        assert client.post("/v1/messages", json=message()).status_code == 202
        for answer in (client.get(f"/v1/messages/{uuid.uuid4()}"), client.get("/v1/config")):
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert "retry-after" in answer.headers


def test_without_rabbitmq_the_answer_is_503_and_the_process_can_be_stopped(tmp_path: Path) -> None:
    settings = settings_of(f"amqp://guest:guest@127.0.0.1:{free_ports(1)[0]}/", "postgresql://127.0.0.1:1/none", tmp_path)
    with (
        start(settings, ready=False) as process,
        httpx.Client(base_url=f"http://{settings['HTTP_LISTEN']}", timeout=30) as client,
    ):
        wait_until(lambda: client.get("/liveness").status_code == 200, tolerating=(httpx.TransportError,))
        answer = client.post("/v1/messages", json=message(mime=MIME + "x" * 200_000))
        assert (answer.status_code, client.get("/readiness").status_code) == (503, 503)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        process.signal(signal.SIGTERM)
        assert process.wait(within=10) == 0


def test_a_request_in_hand_is_finished_on_sigterm(vhost: str, servers: Stack, database: str, tmp_path: Path) -> None:
    servers.declare_topology(vhost)
    settings = settings_of(vhost, database, tmp_path)
    body = json.dumps(message()).encode()
    host, port = settings["HTTP_LISTEN"].split(":")
    with start(settings) as process, socket.create_connection((host, int(port)), timeout=20) as client:
        head = f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body[:20])
        # The request is in hand once it is counted neither as finished nor refused: a second one is answered after it was read.
        with httpx.Client(base_url=f"http://{settings['HTTP_LISTEN']}") as other:
            assert other.get("/liveness").status_code == 200
        process.signal(signal.SIGTERM)
        wait_until(lambda: '"stopping"' in process.log, what="the process to be stopping")
        client.sendall(body[20:])
        assert client.recv(65536).startswith(b"HTTP/1.1 202 ")
        assert process.wait(within=15) == 0
    assert len(Queues(vhost).take("inbox")) == 1


def test_a_missing_queue_is_said_in_one_line(vhost: str, tmp_path: Path) -> None:
    settings = settings_of(vhost, "postgresql://127.0.0.1:1/none", tmp_path)
    with start(settings, ready=False) as process:
        assert process.wait(within=15) == 2
        assert "json-inbox: " in process.log
        assert "actions" in process.log
        assert "Traceback" not in process.log


def test_a_20_mb_mail_costs_less_than_100_mb(vhost: str, servers: Stack, database: str, tmp_path: Path) -> None:
    servers.declare_topology(vhost)
    settings = settings_of(vhost, database, tmp_path)
    with start(settings) as process, httpx.Client(base_url=f"http://{settings['HTTP_LISTEN']}", timeout=60) as client:
        status = Path(f"/proc/{process.pid}/status")

        def memory(name: str) -> int:
            return next(int(line.split()[1]) // 1024 for line in status.read_text().splitlines() if line.startswith(name))

        before = memory("VmRSS")
        assert before < 90
        body = json.dumps(message(mime=MIME + ("x" * 76 + "\r\n") * 268_000)).encode()
        assert client.post("/v1/messages", content=body, headers=JSON).status_code == 202
        assert memory("VmHWM") - before < 100
