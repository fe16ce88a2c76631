"""Every mail's end reaches the endpoint at least once, through kill -9 of webhook and an endpoint that fails for a while."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from services.cli.__main__ import call
from tests.pipeline.conftest import Run
from tests.stack import Stack
from tests.support.background import Background
from tests.support.ledger import Ledger
from tests.support.mx import ScriptedMx
from tests.support.queues import Queues
from tests.support.service import ServiceProcess
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import Receiver

ROOT = Path(__file__).resolve().parents[2]
COUNT = 400
BATCH = 20


@pytest.mark.long
def test_events_through_kills_and_failures(pipeline: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (ROOT / "topology-webhook.json").open("rb") as topology:
        pipeline.run_command(["amqpinit", pipeline.env["RABBITMQ_ADDRESS"]], stdin=topology.fileno())
    with Background() as background:
        sink = background.enter(ScriptedMx(tmp_path / "sink"))
        receiver = background.enter(Receiver())
        url = ["--url", f"{receiver.url}/hook", "--event", "delivered", "--event", "failed", "--event", "deferred"]
        assert call(["webhooks", "add", "hook", *url, "--db-uri", pipeline.env["DB_URI"]]) == 0
        pipeline.start("smtp-sender", SMTP_SINK_ADDRESS=sink.addresses[0])
        pipeline.start("result-recorder", RABBITMQ_WEBHOOK="webhook")
        run = Run(pipeline, Ledger(tmp_path / "sink"))
        settings = {
            "RABBITMQ_ADDRESS": pipeline.env["RABBITMQ_ADDRESS"],
            "DB_URI": pipeline.env["DB_URI"],
            "WEBHOOK_SNAPSHOT": str(tmp_path / "webhooks.json"),
            "WEBHOOK_ALLOW_HTTP": "true",
            "WEBHOOK_ALLOW_PRIVATE": "127.0.0.1/32",
            "WEBHOOK_BATCH_SIZE": str(BATCH),
            "WEBHOOK_BATCH_TIME": "0.05",
            "WEBHOOK_RETRY_INTERVAL": "1",
        }
        for quarter in range(4):
            # One of four recipients is refused for good.
            run.publish(COUNT // 4, lambda number: f"{'reject' if number % 4 == 0 else 'ok'}+{number}@good.example")
            receiver.mode = "503" if quarter == 2 else "ok"
            seen = len(receiver.posts)
            with ServiceProcess("webhook", settings) as process:
                receiver.wait_for_posts(seen + 1)
                process.signal(SIGKILL)
                process.wait()
        receiver.mode = "ok"
        queues = Queues(pipeline.env["RABBITMQ_ADDRESS"])
        with ServiceProcess("webhook", settings) as process:
            wait_until(lambda: len(_ends(receiver)) == COUNT, within=60, what=f"{COUNT} ends of mail")
            wait_until(
                lambda: not any(queues.count(name) for name in ("webhook", "webhook.batches", "webhook.wait.5s")), within=30
            )
            process.signal(SIGTERM)
            assert process.wait() == 0
        ends = _ends(receiver)
        assert Counter(ends.values()) == {"delivered": COUNT * 3 // 4, "failed": COUNT // 4}
        # The same id is the same thing, byte by byte.
        told: dict[str, set[str]] = {}
        for post in receiver.posts:
            for event in post.events:
                told.setdefault(event["id"], set()).add(str(event))
        assert {len(texts) for texts in told.values()} == {1}
        assert queues.count("dead") == 0


def _ends(receiver: Receiver) -> dict[str, str]:
    """Mail → how it ended, as the endpoint was told and has said that it knows."""
    taken = [post for post in list(receiver.posts) if post.mode == "ok"]
    return {event["data"]["recipient"]: event["type"] for post in taken for event in post.events}
