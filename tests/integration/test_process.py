"""A process of ours from start to end: exit codes, signals, health, logs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from tests.support.waiting import free_ports, wait_until

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import asyncio, sys
from shared import log
from shared.process import Runtime, run_service
from shared.settings import Settings
from shared.trouble import BadSetting, BrokerLost

async def serve(settings: Settings, runtime: Runtime) -> None:
    what = sys.argv[1]
    runtime.on_hangup.append(lambda: print("hangup", flush=True))
    if what == "bad": raise BadSetting("dns-servers: 'x': expected ip or ip:port")
    if what == "lost": raise BrokerLost("gone")
    if what == "bug": raise ZeroDivisionError("a bug")
    if what == "done": return
    runtime.ready = True
    print("ready", flush=True)
    log.get_logger(id="i1").info("told", reason="é", secretless=True)
    await runtime.run_until_stopping()
    if what == "stuck": await asyncio.Event().wait()

sys.exit(run_service("tester", Settings, serve, options=dict(zip(sys.argv[2::2], sys.argv[3::2]))))
"""


def run(what: str, **options: str) -> subprocess.CompletedProcess[str]:
    arguments = [text for name, value in options.items() for text in (name.replace("_", "-"), value)]
    command = [sys.executable, "-c", PROGRAM, what, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def started(what: str, **options: str) -> Iterator[subprocess.Popen[str]]:
    arguments = [text for name, value in options.items() for text in (name.replace("_", "-"), value)]
    command = [sys.executable, "-c", PROGRAM, what, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("what", "code"), [("done", 0), ("lost", 1), ("bug", 1), ("bad", 2)])
def test_exit_codes(what: str, code: int) -> None:
    ended = run(what, metrics_addr="")
    assert ended.returncode == code
    if what == "bad":
        assert "tester: dns-servers: 'x': expected ip or ip:port" in ended.stderr.splitlines()
    assert ("ZeroDivisionError: a bug" in ended.stderr) == (what == "bug")
    assert ("Traceback" in ended.stderr) == (what == "bug")


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        ("log_level", "loud", "tester: log-level: 'loud' (from command line): "),
        ("metrics_addr", "nowhere", "tester: metrics-addr: 'nowhere': expected host:port"),
        ("no_such", "x", "tester: command line: unknown setting --no-such"),
    ],
)
def test_a_wrong_setting_is_one_line(option: str, value: str, line: str) -> None:
    ended = run("done", **{option: value})
    assert ended.returncode == 2
    assert any(said.startswith(line) for said in ended.stderr.splitlines())
    assert "Traceback" not in ended.stderr


def test_an_address_in_use() -> None:
    [port] = free_ports(1)
    with started("serve", metrics_addr=f"127.0.0.1:{port}"):
        ended = run("done", metrics_addr=f"127.0.0.1:{port}")
        assert ended.returncode == 2
        assert f"tester: metrics-addr: '127.0.0.1:{port}': Address already in use" in ended.stderr.splitlines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop(number: signal.Signals) -> None:
    with started("serve", metrics_addr="") as process:
        process.send_signal(number)
        assert process.wait(10) == 0


def test_work_that_does_not_end_is_left() -> None:
    with started("stuck", metrics_addr="", drain_timeout="0") as process:
        process.terminate()
        assert process.wait(20) == 1


def test_hangup_reloads() -> None:
    with started("serve", metrics_addr="") as process:
        process.send_signal(signal.SIGHUP)
        assert process.stdout is not None
        assert process.stdout.readline() == "hangup\n"
        assert process.poll() is None


def test_logs_are_lines_of_json() -> None:
    with started("serve", metrics_addr="") as process:
        process.terminate()
        _, logged = process.communicate(timeout=10)
    lines = [orjson.loads(line) for line in logged.splitlines()]
    assert [line["event"] for line in lines] == ["starting", "told", "stopping", "stopped"]
    told = lines[1]
    assert (told["service"], told["level"], told["id"], told["reason"], told["secretless"]) == ("tester", "info", "i1", "é", True)
    assert told["timestamp"].endswith("Z")


def test_the_level_of_the_log() -> None:
    ended = run("lost", metrics_addr="", log_level="error")
    assert [orjson.loads(line)["level"] for line in ended.stderr.splitlines()] == ["error"]


def test_health_and_metrics() -> None:
    [port] = free_ports(1)

    def ask(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    with started("stuck", metrics_addr=f"127.0.0.1:{port}", drain_timeout="30") as process:
        assert ask("/liveness") == (200, "ok\n")
        assert ask("/readiness") == (200, "ok\n")
        status, metrics = ask("/metrics")
        assert status == 200
        assert "process_resident_memory_bytes" in metrics
        assert ask("/other")[0] == 404
        process.terminate()
        wait_until(lambda: ask("/readiness") == (503, "not readiness\n"), within=10)
        assert ask("/liveness")[0] == 200


def test_a_client_that_says_nothing_keeps_no_probe_waiting() -> None:
    [port] = free_ports(1)
    address = ("127.0.0.1", port)
    with started("serve", metrics_addr=f"127.0.0.1:{port}"), socket.create_connection(address), socket.create_connection(address):
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
        assert "\nprocess_ready 1.0\n" in metrics


def test_it_works_in_batches_unless_somebody_has_decided_otherwise() -> None:
    before = os.sched_getscheduler(0)
    try:
        for policy, kept in ((os.SCHED_OTHER, os.SCHED_BATCH), (os.SCHED_IDLE, os.SCHED_IDLE)):
            os.sched_setscheduler(0, policy, os.sched_param(0))
            with started("stay", metrics_addr="") as process:
                assert os.sched_getscheduler(process.pid) == kept
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))
