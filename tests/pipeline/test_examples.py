"""The examples of the README, run as they stand there."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson

from tests.stack import Stack
from tests.support.mx import ScriptedMx
from tests.support.waiting import wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
DELIVERED = "someone@good.example 250"


def run(env: Mapping[str, str], *command: str) -> str:
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_python_examples(pipeline: Stack, sink: ScriptedMx) -> None:
    pipeline.start("smtp-sender", SMTP_SINK_ADDRESS=sink.address)
    for name in ("publish_pika.py", "publish_aio_pika.py"):
        assert run(pipeline.env, sys.executable, str(EXAMPLES / name)).startswith(DELIVERED)
    assert [mail.recipient for mail in sink.ledger.mails()] == ["someone@good.example"] * 2


def test_curl_example(pipeline: Stack, sink: ScriptedMx) -> None:
    pipeline.start("json-inbox")
    pipeline.start("router")
    pipeline.start("smtp-sender", SMTP_SINK_ADDRESS=sink.address)
    answer = orjson.loads(run(pipeline.env, "sh", str(EXAMPLES / "publish.sh")))
    assert [message["recipient"] for message in answer["messages"]] == ["someone@good.example"]
    wait_until(lambda: any(True for _ in sink.ledger.mails()), within=20)
