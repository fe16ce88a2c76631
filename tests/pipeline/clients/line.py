"""The whole pipeline with a sink at its end, and what a test of a client asks of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.rows import dict_row

from tests.stack import Stack
from tests.support.certificates import Certificates
from tests.support.ledger import Ledger, Mail
from tests.support.queues import Queues
from tests.support.waiting import wait_until

HOSTNAME = "in.example"
"""Our name in the greeting and in the Received fields."""
SENDER = "news@shop.example"
USER, PASSWORD = "shop", "correct horse"
SERVICES = ("smtp-inbox", "json-inbox", "router", "smtp-sender", "result-recorder")
_FIELD = re.compile(rb"[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")
_ROWS = "SELECT * FROM message_status WHERE recipient = ANY(%s)"


def fresh(word: str = "ok") -> str:
    """A recipient that no other test has; ``word``: how the sink behaves (``tests.support.mx``)."""
    return f"{word}+{uuid4().hex[:12]}@good.example"


@dataclass(frozen=True, slots=True)
class Arrived:
    """One mail at the end of the pipeline."""

    mail: Mail
    """As the sink took it."""
    received: str
    """The Received field that we put on top, unfolded."""
    content: bytes
    """Everything below it."""
    row: Mapping[str, Any]
    """Of ``message_status``."""

    def below(self, fields: int) -> bytes:
        """The content without the first ``fields`` fields, which must be Received ones: those of the client's own MTA."""
        content = self.content
        for _ in range(fields):
            field, content = cut_field(content)
            assert field.lower().startswith(b"received:"), field
        return content


def cut_field(content: bytes) -> tuple[bytes, bytes]:
    """The first field, and what comes after it."""
    found = _FIELD.match(content)
    assert found is not None
    return found[0], content[found.end() :]


def show_difference(got: bytes, sent: bytes) -> str:
    """Where two contents begin to differ."""
    at = next(
        (number for number, (one, other) in enumerate(zip(got, sent, strict=False)) if one != other), min(len(got), len(sent))
    )
    return f"from octet {at} on {got[at - 20 : at + 40]!r}, sent was {sent[at - 20 : at + 40]!r}"


@dataclass(frozen=True, slots=True)
class Line:
    """The pipeline.

    ``port`` takes mail from this host without a password, ``smtps_port`` the same under TLS from the first octet, and
    ``submission_port`` from ``USER`` alone, after STARTTLS.
    """

    stack: Stack
    ledger: Ledger
    certificates: Certificates
    port: int
    smtps_port: int
    submission_port: int
    host: str = "127.0.0.1"

    @property
    def address(self) -> str:
        """Where it takes mail, ``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def ca(self) -> str:
        """The file with the authority that its certificate is from."""
        return str(self.certificates.ca)

    def rows(self, recipients: Iterable[str]) -> list[dict[str, Any]]:
        """The final records of these recipients."""
        with psycopg.connect(self.stack.env["DB_URI"], row_factory=dict_row) as connection:
            return connection.execute(_ROWS, [list(recipients)]).fetchall()

    def wait_all(self, recipients: Sequence[str], within: float = 30) -> dict[str, Arrived]:
        """Recipient to its mail, once every one was delivered and recorded. One copy each, and not one more."""
        rows = wait_until(
            lambda: found if len(found := self.rows(recipients)) >= len(set(recipients)) else [],
            within=within,
            every=0.1,
            what=f"final records of {len(recipients)} mails",
        )
        by_recipient = self.ledger.by_recipient()
        arrived = {}
        for row in rows:
            assert row["status"] == "delivered", row["results"]
            [mail] = by_recipient[row["recipient"]]
            field, content = cut_field(mail.content)
            received = " ".join(field.decode().split())
            assert re.match(rf"Received: from \S+ \(\[127\.0\.0\.1\]\) by {re.escape(HOSTNAME)} with ", received), received
            assert row["recipient"] not in arrived, "one record for one mail"
            arrived[row["recipient"]] = Arrived(mail, received, content, row)
        return arrived

    def wait_for(self, recipient: str, within: float = 30) -> Arrived:
        """See ``wait_all``."""
        return self.wait_all([recipient], within)[recipient]

    def check_bytes(self, sent: Mapping[str, bytes]) -> dict[str, Arrived]:
        """Wait for every recipient of ``sent`` and compare what arrived with what was sent to it."""
        arrived = self.wait_all(list(sent))
        for recipient, content in sent.items():
            got = arrived[recipient].content
            assert got == content, f"not what was sent to {recipient}: {show_difference(got, content)}"
        return arrived

    def take_results(self) -> dict[str, dict[str, Any]]:
        """Recipient to its result on the queue ``success``; the queue is empty afterwards."""
        taken = Queues(self.stack.env["RABBITMQ_ADDRESS"]).take("success")
        return {got.document["recipient"]: got.document for got in taken}


def run_client(argv: Sequence[str], *, stdin: bytes = b"", exits: int = 0) -> str:
    """Run a program; what it said on both its outputs."""
    done = subprocess.run(argv, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
    said = done.stdout.decode(errors="surrogateescape")
    assert done.returncode == exits, f"{argv[0]} ended with {done.returncode}: {said}"
    return said
