"""The private stack with its real servers: started, hurt, stopped; nothing is left of it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pika
import psutil
import psycopg
import pytest

from deploy.stack.leftovers import find_leftovers
from deploy.stack.places import ROOT, is_free
from tests.stack import Stack
from tests.support.waiting import wait_until


@pytest.mark.long
def test_servers_come_back_with_their_data_and_nothing_is_left_at_the_end() -> None:
    with Stack(servers_only=True) as stack:
        declare(stack)
        # RabbitMQ 3.10 forgets the members of a quorum queue that was declared less than a second or so before kill -9.
        stack.restart("rabbitmq")
        publish(stack, b"kept")
        insert(stack)
        before = stack.pids("rabbitmq") + stack.pids("postgres")
        stack.kill("rabbitmq")
        stack.kill("postgres")
        stack.wait_ready("postgres")
        stack.wait_ready("rabbitmq")
        assert not set(before) & set(stack.pids("rabbitmq") + stack.pids("postgres"))
        assert fetch(stack) == b"kept"
        stack.stop("postgres")
        assert stack.pids("postgres") == []
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(stack.postgres.address("postgres"))
        stack.start("postgres")
        assert count(stack) == 1
        folder, data, ports = stack.folder, stack.postgres.data, used_ports(stack)
        assert len(find_leftovers(folder, data)) > 4
        assert not any(map(is_free, ports))
    assert find_leftovers(folder, data) == []
    assert all(map(is_free, ports))
    assert not folder.exists()


def test_a_stack_dies_with_the_process_that_made_it() -> None:
    program = (
        "from tests.stack import Stack; import os; stack = Stack(servers_only=True); stack.up();"
        "print(stack.folder, stack.postgres.data, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    folder, data = map(Path, done.stdout.split())
    wait_until(lambda: not find_leftovers(folder, data), within=30)
    shutil.rmtree(folder)


@pytest.mark.long
def test_a_second_up_is_refused_and_a_stack_without_its_supervisor_is_cleaned_up(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.stack", "--servers-only", "--folder", str(tmp_path / "run")]
    first = run([*command, "up"])
    assert "RABBITMQ_ADDRESS" in first
    try:
        assert "Already up" in run([*command, "up"])
        assert "rabbitmq" in run([*command, "status"])
        supervisor = psutil.Process(int((tmp_path / "run" / "supervisord.pid").read_text()))
        orphans = supervisor.children(recursive=True)
        supervisor.kill()
        assert "processes are left of it" in run([*command, "status"])
        second = run([*command, "up"])
        assert not any(orphan.is_running() for orphan in orphans)
        assert addresses(second) == addresses(first)
    finally:
        ended = run([*command, "down"])
    assert ended.endswith("Down: nothing of it is running.\n")
    assert run([*command, "status"]) == "Down.\n"
    assert find_leftovers(tmp_path / "run", None) == []
    run([*command, "clean"])
    assert not (tmp_path / "run").exists()


def run(command: list[str]) -> str:
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def addresses(told: str) -> list[str]:
    return [line for line in told.splitlines() if line.startswith("  ")]


def used_ports(stack: Stack) -> list[int]:
    return [port for name in ("epmd", "rabbitmq", "postgres") for port in stack.ports(name)]


def declare(stack: Stack) -> None:
    with pika.BlockingConnection(pika.URLParameters(stack.rabbitmq.address())) as connection:
        connection.channel().queue_declare("kept", durable=True, arguments={"x-queue-type": "quorum"})


def publish(stack: Stack, body: bytes) -> None:
    with pika.BlockingConnection(pika.URLParameters(stack.rabbitmq.address())) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", "kept", body, pika.BasicProperties(delivery_mode=2), mandatory=True)


def fetch(stack: Stack) -> bytes | None:
    with pika.BlockingConnection(pika.URLParameters(stack.rabbitmq.address())) as connection:
        body: bytes | None = connection.channel().basic_get("kept", auto_ack=True)[2]
        return body


def insert(stack: Stack) -> None:
    with psycopg.connect(stack.postgres.address("postgres")) as connection:
        connection.execute("CREATE TABLE kept (id int)")
        connection.execute("INSERT INTO kept VALUES (1)")


def count(stack: Stack) -> int:
    with psycopg.connect(stack.postgres.address("postgres")) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])
