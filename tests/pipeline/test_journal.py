"""P2: what a peer has taken is not sent again, whichever sender of the host meets it after a crash; and one bad mail harms no neighbour."""

import signal
from pathlib import Path
from uuid import uuid4

import orjson
import pika
import pytest

from tests.pipeline.conftest import Run
from tests.stack import Stack
from tests.support.mx import ScriptedMx
from tests.support.queues import Queues
from tests.support.waiting import wait_until

COUNT = 60
SLOW = "slow-300ms"
KILLER = "silent-data-9+kill@good.example"


def publish_ours(stack: Stack, recipients: list[str], tokens: list[str]) -> None:
    """Mails as our own processes publish them: with an id, and our app-id."""
    with pika.BlockingConnection(pika.URLParameters(stack.env["RABBITMQ_ADDRESS"])) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(delivery_mode=2, app_id="mailwarren")
        for recipient in recipients:
            token = f"t{len(tokens)}"
            mime = f"From: a@shop.example\r\nSubject: {token}\r\nX-Token: {token}\r\n\r\nx\r\n"
            ours = {"id": str(uuid4()), "seen": "2026-03-01 12:00:00", "channel": "json", "maxdelivertime": "2099-01-01 00:00:00"}
            mail = {"envelope": "a@shop.example", "recipient": recipient, "mime": mime, **ours}
            channel.basic_publish("mailwarren", "outbox", orjson.dumps(mail), properties, mandatory=True)
            tokens.append(token)


def journalled(stack: Stack) -> int:
    """Attempts that have ended, in all files of the journal."""
    lines = (line for path in Path(stack.folder, "journal").glob("*.journal") for line in path.read_bytes().splitlines())
    return sum(line.startswith(b"end ") for line in lines)


@pytest.mark.parametrize(
    ("senders", "is_ours"),
    [(1, True), (2, False), pytest.param(1, False, marks=pytest.mark.long), pytest.param(2, True, marks=pytest.mark.long)],
    ids=[
        "to itself, with an id of ours",
        "to a sibling, published by an application",
        "to itself, published by an application",
        "to a sibling, with an id of ours",
    ],
)
def test_taken_but_not_told(senders: int, sink: ScriptedMx, *, is_ours: bool) -> None:
    """The broker freezes: every mail is taken by the peer, no result can be confirmed, and the sender is killed."""
    with Stack(
        {"SMTP_SINK_ADDRESS": sink.address}, services=("smtp-sender", "result-recorder"), scale={"smtp-sender": senders}
    ) as stack:
        run = Run(stack, sink.ledger)
        if is_ours:
            publish_ours(stack, [f"{SLOW}+{number}@good.example" for number in range(COUNT)], run.tokens)
        else:
            run.publish(COUNT, recipient=lambda number: f"{SLOW}+{number}@good.example")
        wait_until(lambda: run.arrived() > 0, within=30)
        stack.kill("rabbitmq", signal.SIGSTOP)
        wait_until(lambda: journalled(stack) >= COUNT, within=30)
        stack.kill("smtp-sender" if senders == 1 else "smtp-sender-1")
        stack.kill("rabbitmq", signal.SIGCONT)
        run.wait_final()
        run.assert_all_arrived(most_duplicates=0)
        queues = Queues(stack.env["RABBITMQ_ADDRESS"])
        ids = [result.document["id"] for result in queues.take("success")]
        assert len(set(ids)) == COUNT
        assert run.rows() == COUNT


def test_a_mail_that_kills_the_process_is_parked_and_harms_no_neighbour(own_run: Run, sink: ScriptedMx) -> None:
    def begun() -> int:
        return sink.state.playbook.attempts[KILLER]

    publish_ours(own_run.stack, [f"{SLOW}+{number}@good.example" for number in range(30)], own_run.tokens)
    publish_ours(own_run.stack, [KILLER], [])
    publish_ours(own_run.stack, [f"{SLOW}+{number}@good.example" for number in range(30, 60)], own_run.tokens)
    wait_until(lambda: begun() == 1, within=60)
    own_run.stack.kill("smtp-sender")
    wait_until(lambda: begun() == 2, within=60)
    own_run.stack.kill("smtp-sender")
    own_run.stack.wait_ready("smtp-sender")
    own_run.wait_final()
    queues = Queues(own_run.stack.env["RABBITMQ_ADDRESS"])
    wait_until(lambda: queues.count("dead") == 1, within=60)
    [parked] = queues.take("dead")
    assert parked.document["recipient"] == KILLER
    assert "2 processes died" in parked.headers["reason"]
    assert not own_run.ledger.lost(own_run.tokens)
    told = [result.document["results"][-1] for result in queues.take("success")]
    assert len(told) == len(own_run.tokens)
    assert any(attempt.get("possible-duplicate") for attempt in told), "some were in work when a process died"
