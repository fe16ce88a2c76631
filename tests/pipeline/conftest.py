"""What the pipeline tests share: a sink in a thread, a way to publish a thousand mails, and the questions they all ask."""

from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pika
import psycopg
import pytest

from tests.stack import Stack
from tests.support.background import Background
from tests.support.ledger import Ledger
from tests.support.mx import ScriptedMx
from tests.support.waiting import wait_until

MANY = 1000


def slow_recipient(number: int) -> str:
    """A recipient whose mail the sink answers a moment later: a run of MANY lasts for seconds, and there is a middle to hit."""
    return f"slow-100ms+{number}@good.example"


class Run:
    """Many mails published to the exchange ``outbox``, each with a token, and what became of them."""

    def __init__(self, stack: Stack, ledger: Ledger) -> None:
        self.stack = stack
        self.ledger = ledger
        self.tokens: list[str] = []

    def publish(self, count: int = MANY, recipient: Callable[[int], str] = lambda number: f"ok+{number}@good.example") -> None:
        """Publish, confirmed."""
        with pika.BlockingConnection(pika.URLParameters(self.stack.env["RABBITMQ_ADDRESS"])) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            properties = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent.value)
            for number in range(len(self.tokens), len(self.tokens) + count):
                token = f"t{number}"
                mime = f"From: a@shop.example\r\nSubject: {number}\r\nX-Token: {token}\r\n\r\n{'x' * 2000}\r\n"
                message = {"envelope": "a@shop.example", "recipient": recipient(number), "mime": mime}
                channel.basic_publish("outbox", "", orjson.dumps(message), properties, mandatory=True)
                self.tokens.append(token)

    def arrived(self) -> int:
        """Mails in the ledger, copies included."""
        return sum(1 for _ in self.ledger.mails())

    def final(self) -> int:
        """Mails with a row in ``message_status``; 0 while Postgres is down.

        A mail that was published without an id and handed out twice by the broker has two: it was delivered twice.
        """
        try:
            with psycopg.connect(self.stack.env["DB_URI"], connect_timeout=2) as connection:
                row = connection.execute("SELECT count(DISTINCT subject) FROM message_status").fetchone()
        except psycopg.OperationalError:
            return 0
        return int(row[0]) if row else 0

    def rows(self) -> int:
        """Rows in ``message_status``."""
        with psycopg.connect(self.stack.env["DB_URI"], connect_timeout=2) as connection:
            row = connection.execute("SELECT count(*) FROM message_status").fetchone()
        return int(row[0]) if row else 0

    def wait_final(self, within: float = 90) -> None:
        """Until every mail has its final row."""
        wait_until(lambda: self.final() >= len(self.tokens), within=within, every=0.2)

    def assert_all_arrived(self, most_duplicates: int) -> None:
        """None lost, and no more doubled than the promise allows."""
        assert not self.ledger.lost(self.tokens)
        doubled = self.ledger.duplicates()
        assert sum(doubled.values()) <= most_duplicates
        assert self.final() == len(self.tokens)


@pytest.fixture
def background() -> Iterator[Background]:
    """A thread for servers of ours."""
    with Background() as thread:
        yield thread


@pytest.fixture
def sink(background: Background, tmp_path: Path) -> ScriptedMx:
    """An MX that writes down what it accepts."""
    return background.enter(ScriptedMx(tmp_path / "ledger"))


@pytest.fixture
def run(pipeline: Stack, sink: ScriptedMx) -> Run:
    """Sender and recorder at work on shared servers, everything delivered to the sink."""
    pipeline.start("result-recorder")
    pipeline.start("smtp-sender", SMTP_SINK_ADDRESS=sink.address)
    return Run(pipeline, sink.ledger)


@pytest.fixture
def own_run(sink: ScriptedMx) -> Iterator[Run]:
    """The same with servers of its own, which the test may stop."""
    settings = {"SMTP_SINK_ADDRESS": sink.address}
    with Stack(settings, services=("smtp-sender", "result-recorder")) as stack:
        yield Run(stack, sink.ledger)
