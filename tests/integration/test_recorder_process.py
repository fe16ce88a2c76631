"""The recorder as a process, with RabbitMQ and Postgres of its own that may be stopped."""

import os
import re
import signal
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

import pika
import psutil
import psycopg
import pytest

from shared.amqp.frame import Frame
from shared.wire.message import APP_ID
from tests.stack import Stack
from tests.support.queues import Queues
from tests.support.record_frames import accepted, failure, make_frame, make_mail, make_result, refused, retry, success
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    # The copies lead nowhere until one test declares their queue: that is no trouble for the others.
    settings = {"HOLD_TIME": "1", "DB_STATEMENT_TIMEOUT": "5", "DB_CONNECT_TIMEOUT": "2", "RABBITMQ_WEBHOOK": "webhook"}
    with Stack(settings, services=()) as running:
        running.start("result-recorder")
        yield running


def publish(stack: Stack, frames: Iterable[Frame], app_id: str | None = APP_ID) -> None:
    """To the key ``record``, as our processes do it."""
    connection = pika.BlockingConnection(pika.URLParameters(stack.env["RABBITMQ_ADDRESS"]))
    channel = connection.channel()
    channel.confirm_delivery()
    for frame in frames:
        headers = {} if frame.event is None else {"event": frame.event}
        properties = pika.BasicProperties(delivery_mode=2, app_id=app_id, headers=headers, message_id=str(uuid4()))
        channel.basic_publish("mailwarren", "record", frame.body, properties, mandatory=True)
    connection.close()


def take_parked(stack: Stack) -> list[tuple[dict[str, str], bytes]]:
    connection = pika.BlockingConnection(pika.URLParameters(stack.env["RABBITMQ_ADDRESS"]))
    channel = connection.channel()
    taken = []
    while (answer := channel.basic_get("dead", auto_ack=True))[0] is not None:
        taken.append((answer[1].headers, answer[2]))
    connection.close()
    return taken


def count(stack: Stack, ids: list[str]) -> int:
    with psycopg.connect(stack.env["DB_URI"]) as connection:
        row = connection.execute("SELECT count(*) FROM message_status WHERE id = ANY (%s)", [ids]).fetchone()
    return int(row[0]) if row else 0


@pytest.mark.long
def test_signs_of_life_reach_postgres(stack: Stack) -> None:
    with psycopg.connect(stack.env["DB_URI"]) as connection:
        row = wait_until(
            lambda: connection.execute("SELECT queue FROM recorder_progress WHERE caught_up_since IS NOT NULL").fetchone(), 40
        )
    assert row == ("records",)


def test_records_are_recorded_and_what_cannot_be_is_parked_with_the_reason(stack: Stack) -> None:
    mails = [make_mail() for _ in range(50)]
    publish(stack, [make_frame(b"not json", "failure"), *map(success, mails)])
    publish(stack, [success(make_mail())], app_id=None)
    assert wait_until(lambda: count(stack, [mail["id"] for mail in mails]) == 50, 20)
    parked = wait_until(lambda: take_parked(stack), 20)
    parked += wait_until(lambda: take_parked(stack), 20) if len(parked) < 2 else []
    (broken, body), (stranger, _) = sorted(parked, key=lambda item: item[0]["reason"])
    assert body == b"not json"
    assert broken["origin-queue"] == stranger["origin-queue"] == "records"
    assert broken["event"] == "failure"
    assert "not JSON" in broken["reason"]
    assert "app-id" in stranger["reason"]


def test_killed_in_mid_run_every_record_is_there_once(stack: Stack) -> None:
    mails = [make_mail() for _ in range(1000)]
    ids = [mail["id"] for mail in mails]
    frames = [
        frame for mail in mails for frame in (accepted(mail), retry(mail, refused(1)), success(mail, refused(1), make_result(2)))
    ]
    publish(stack, frames[:1500])
    stack.kill("result-recorder")
    publish(stack, frames[1500:])
    stack.wait_ready("result-recorder")
    assert wait_until(lambda: count(stack, ids) == 1000, 60)
    _until_nothing_is_left(stack)
    assert take_parked(stack) == []


@pytest.mark.long
def test_postgres_away_for_a_while_costs_nothing(stack: Stack) -> None:
    mails = [make_mail() for _ in range(500)]
    ids = [mail["id"] for mail in mails]
    publish(stack, map(accepted, mails))
    stack.stop("postgres")
    publish(stack, (failure(mail, refused(1)) for mail in mails))
    wait_until(lambda: "not consuming until it is back" in stack.log("result-recorder").read_text(), 20)
    stack.start("postgres")
    assert wait_until(lambda: count(stack, ids) == 500, 60, tolerating=(psycopg.OperationalError,))
    _until_nothing_is_left(stack)
    assert take_parked(stack) == []


@pytest.mark.long
@pytest.mark.parametrize("trouble", ["frozen", "read-only", "frozen, and the recorder asked to stop"])
def test_postgres_frozen_or_read_only_costs_nothing(stack: Stack, trouble: str) -> None:
    """Frozen: connections stay open and nobody answers. Meanwhile the lag grows; afterwards it is 0 again."""
    mails = [make_mail() for _ in range(300)]
    ids = [mail["id"] for mail in mails]
    publish(stack, map(accepted, mails))
    before = len(stack.log("result-recorder").read_text())
    with _frozen(stack) if trouble.startswith("frozen") else _read_only(stack):
        publish(stack, (failure(mail, refused(1)) for mail in mails))
        if trouble.endswith("stop"):
            stack.stop("result-recorder")
        else:
            wait_until(lambda: _lag(stack) > 3, 30, what="the lag to grow")
            wait_until(lambda: "not consuming until it is back" in stack.log("result-recorder").read_text()[before:], 60)
    if trouble.endswith("stop"):
        stack.start("result-recorder")
    assert wait_until(lambda: count(stack, ids) == 300, 90)
    _until_nothing_is_left(stack)
    wait_until(lambda: _lag(stack) == 0, 60, what="the lag to be 0 again")
    assert take_parked(stack) == []


def test_what_is_recorded_is_copied_for_webhook(stack: Stack) -> None:
    stack.declare_topology(stack.env["RABBITMQ_ADDRESS"], "topology-webhook.json")
    mails = [make_mail() for _ in range(20)]
    publish(stack, map(success, mails))
    publish(stack, [make_frame(b"not json", "failure")])
    wait_until(lambda: take_parked(stack), 20)
    queues = Queues(stack.env["RABBITMQ_ADDRESS"])
    wait_until(lambda: queues.count("webhook") == len(mails), 20)
    taken = queues.take("webhook")
    assert sorted(got.document["id"] for got in taken) == sorted(mail["id"] for mail in mails)
    assert {(got.headers["event"], got.app_id) for got in taken} == {("success", APP_ID)}
    # The copy is that of a row: who hears of a mail finds it.
    assert count(stack, [got.document["id"] for got in taken]) == 20


def test_an_idle_recorder_is_small(stack: Stack) -> None:
    (pid,) = stack.pids("result-recorder")
    with open(f"/proc/{pid}/status") as status:
        resident = int(re.findall(r"VmRSS:\s+(\d+) kB", status.read())[0])
    assert resident < 90 * 1024


@contextmanager
def _frozen(stack: Stack) -> Iterator[None]:
    """Every process of Postgres is stopped, not ended."""
    (server,) = stack.pids("postgres")
    pids = [server, *(child.pid for child in psutil.Process(server).children(recursive=True))]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def _read_only(stack: Stack) -> Iterator[None]:
    """As a standby, or a primary whose operator has closed it; also for those who are connected."""
    with psycopg.connect(stack.env["DB_URI"], autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        connection.execute("SELECT pg_reload_conf()")
        wait_until(lambda: connection.execute("SHOW default_transaction_read_only").fetchone() == ("on",), 10)
        try:
            yield
        finally:
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")


def _lag(stack: Stack) -> float:
    with urllib.request.urlopen(f"http://{stack.env['METRICS_RESULT_RECORDER']}/metrics", timeout=5) as answer:
        return float(re.findall(r"^recorder_lag_seconds (\S+)$", answer.read().decode(), re.M)[0])


def _until_nothing_is_left(stack: Stack) -> None:
    def left() -> tuple[int, ...]:
        with psycopg.connect(stack.env["DB_URI"]) as connection:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM delivery_attempts)"
            ).fetchone()
        return tuple(row or ())

    wait_until(lambda: left() == (0, 0), 60, what="no mail under way in Postgres")
