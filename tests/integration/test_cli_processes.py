"""The command ``mailwarren`` where it takes processes: results as they pass, a mail from end to end, workers."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.stack import Stack
from tests.support.queues import Queues
from tests.support.waiting import free_ports, wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def environment(servers: Stack, vhost: str, database: str) -> dict[str, str]:
    """A virtual host with our topology, a database with our tables."""
    servers.declare_topology(vhost)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV")}
    own = {"RABBITMQ_ADDRESS": vhost, "RABBITMQ_API": servers.rabbitmq.api, "DB_URI": database}
    return {**kept, **own, "PYTHONPATH": str(ROOT)}


@contextmanager
def running(environment: Mapping[str, str], *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A command that goes on; its standard output and error are one pipe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_following_takes_nothing_from_applications(servers: Stack, environment: dict[str, str], vhost: str) -> None:
    queues = Queues(vhost)
    results = [{"id": str(n), "recipient": "a@example.org", "results": [{"state": "rcptto", "result": "error"}]} for n in (1, 2)]
    with running(environment, "results", "failure", "--follow", "--raw", "--count", "2") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "following key 'failure' of exchange 'mailwarren'\n"
        wait_until(lambda: _find_followers(servers, vhost), what="the follower's queue")
        for result in results:
            queues.publish(result, key="failure")
        assert [json.loads(line) for line in process.stdout] == results
        assert process.wait(timeout=10) == 0
    assert [got.document for got in queues.take("failures")] == results


def _find_followers(servers: Stack, vhost: str) -> list[str]:
    """Queues bound to the key ``failure`` beside the applications' own."""
    path = f"/api/exchanges/{vhost.rpartition('/')[2]}/mailwarren/bindings/source"
    found = servers.rabbitmq.call_api("GET", path)
    return [one["destination"] for one in found if one["routing_key"] == "failure" and one["destination"] != "failures"]


def test_a_mail_sent_is_shown_with_its_attempts(pipeline: Stack) -> None:
    port = free_ports(1)[0]
    command = [
        sys.executable,
        "-m",
        "tests.support.mx",
        "--listen",
        f"127.0.0.1:{port}",
        "--ledger",
        str(pipeline.folder / "ledger"),
    ]
    peer = subprocess.Popen(command, cwd=ROOT)
    try:
        pipeline.start("smtp-sender", SMTP_SINK_ADDRESS=f"127.0.0.1:{port}")
        pipeline.start("router")
        pipeline.start("result-recorder")
        pipeline.start("smtp-inbox")
        pipeline.start("json-inbox")
        said = tell(pipeline, "send", "--to", "ok@example.org", "--text", "x")
        ident = said.split()[2]
        shown = wait_until(lambda: _show(pipeline, ident), within=20, what="the mail to be final")
        assert shown["status"] == "delivered"
        assert [attempt["state"] for attempt in shown["attempts"]] == ["message"]
        answer = json.loads(tell(pipeline, "send", "--via", "http", "--to", "reject-550@example.org", "--subject", "x"))
        failed = answer["messages"][0]["id"]
        wait_until(lambda: _show(pipeline, failed), within=20, what="the refused mail to be final")
        table = tell(pipeline, "show", failed)
        assert "reject-550@example.org: failed\n" in table
        assert "rcptto  error   550" in table
        assert failed in tell(pipeline, "results", "failure")
        assert ident in tell(pipeline, "results", "success", "-n", "1")
    finally:
        peer.terminate()
        peer.wait(timeout=10)


def tell(pipeline: Stack, *arguments: str) -> str:
    """What a command says that is given the stack's settings."""
    return _call(pipeline, *arguments).stdout


def _call(pipeline: Stack, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "services.cli", *arguments]
    environment = {**os.environ, **pipeline.env}
    return subprocess.run(
        command, env=environment, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
    )


def _show(pipeline: Stack, ident: str) -> dict[str, Any]:
    """The mail's state once it is final, else nothing."""
    done = _call(pipeline, "show", "--raw", ident)
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found if found.get("final") else {}


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/readiness", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_workers_are_kept_running_and_end_together(environment: dict[str, str], tmp_path: Path) -> None:
    first = _free_pair()
    arguments = [
        "run",
        "router",
        "--workers",
        "2",
        "--metrics-addr",
        f"127.0.0.1:{first}",
        "--router-snapshot",
        str(tmp_path / "rules"),
    ]
    addresses = [f"127.0.0.1:{first}", f"127.0.0.1:{first + 1}"]
    with running(environment, *arguments) as parent:
        wait_until(lambda: all(map(_is_ready, addresses)), within=20, what="both workers")
        before = psutil.Process(parent.pid).children()
        assert [child.environ()["MAILWARREN_WORKER"] for child in sorted(before, key=lambda child: child.pid)] == ["0", "1"]
        assert all(child.memory_info().rss < 90 * 2**20 for child in before)
        before[0].kill()
        wait_until(lambda: _others(parent, before) and all(map(_is_ready, addresses)), within=20, what="a worker in its place")
        children = psutil.Process(parent.pid).children()
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(timeout=30) == 0
        assert not any(child.is_running() for child in children)


def test_workers_end_when_their_parent_is_killed(environment: dict[str, str], tmp_path: Path) -> None:
    snapshot = str(tmp_path / "rules")
    with running(
        environment, "run", "router", "--workers=2", f"--metrics-addr=127.0.0.1:{_free_pair()}", "--router-snapshot", snapshot
    ) as parent:
        children = wait_until(lambda: _at_least(2, psutil.Process(parent.pid).children()), within=20, what="the workers")
        parent.kill()
        wait_until(lambda: not any(child.is_running() for child in children), within=30, what="the workers to end")


def test_settings_that_are_refused_end_all_workers(environment: dict[str, str], tmp_path: Path) -> None:
    snapshot = f"--router-snapshot={tmp_path / 'rules'}"
    arguments = ["run", "router", "--workers", "2", "--rabbitmq-queue", "nowhere", "--metrics-addr", "", snapshot]
    with running(environment, *arguments) as parent:
        said = parent.communicate(timeout=30)[0]
    assert parent.returncode == 2
    assert "router: queue 'nowhere' is missing at amqp://" in said


def _free_pair() -> int:
    """A port that was free a moment ago, and so was the next one."""
    return next(port for port in iter(lambda: free_ports(1)[0], None) if port < 65000 and _is_free(port + 1))


def _is_free(port: int) -> bool:
    return not any(connection.laddr.port == port for connection in psutil.net_connections("tcp") if connection.laddr)


def _others(parent: "subprocess.Popen[str]", before: list[psutil.Process]) -> bool:
    now = psutil.Process(parent.pid).children()
    return len(now) == 2 and {child.pid for child in now} != {child.pid for child in before}


def _at_least(count: int, found: list[psutil.Process]) -> list[psutil.Process]:
    return found if len(found) >= count else []
