"""One process of ours at work on the shared servers, with a name server and a scripted MX, for all tests of a module."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.stack import Stack
from tests.support.background import Background
from tests.support.dns_zone import ZoneServer
from tests.support.ledger import Mail
from tests.support.mx import ScriptedMx
from tests.support.queues import Got, Queues
from tests.support.waiting import wait_until

MIME = "From: r@a.example\r\nSubject: Größe\r\n\r\nhello\r\n"


class World:
    """Publishes messages, each with a token of its own, and finds what became of each."""

    def __init__(self, stack: Stack, mx: ScriptedMx) -> None:
        self.stack = stack
        self.mx = mx
        self.queues = Queues(stack.env["RABBITMQ_ADDRESS"])
        self._taken: dict[str, list[Got]] = {}

    def publish(
        self, recipient: Any = ..., *, headers: Mapping[str, Any] | None = None, app_id: str | None = None, **properties: Any
    ) -> str:
        """To the exchange ``outbox``, as an application does; the token."""
        token = uuid.uuid4().hex
        document: dict[str, Any] = {"envelope": "r@a.example", "mime": MIME, "x-token": token}
        if recipient is not ...:
            document["recipient"] = recipient
        document |= {name.replace("_", "-"): value for name, value in properties.items()}
        self.queues.publish(document, exchange="outbox", headers=headers, app_id=app_id)
        return token

    def find(self, queue: str, token: str) -> list[Got]:
        """What came to ``queue`` with this token so far, oldest first."""
        taken = self._taken.setdefault(queue, [])
        taken += self.queues.take(queue)
        return [got for got in taken if token.encode() in got.body]

    def wait_for(self, queue: str, token: str, count: int = 1) -> list[Got]:
        """Until so many came."""
        return wait_until(lambda: found if len(found := self.find(queue, token)) >= count else None, within=20) or []

    def result(self, queue: str, token: str) -> dict[str, Any]:
        """The one result of the message in ``queue``."""
        [got] = self.wait_for(queue, token)
        return got.document

    def delivered(self, recipient: str) -> list[Mail]:
        """What the MX has for this recipient."""
        return [mail for mail in self.mx.ledger.mails() if mail.recipient == recipient]


@contextmanager
def at_work(
    servers: Stack, template: str, folder: Path, service: str, settings: Mapping[str, str], **zone: Any
) -> Iterator[World]:
    """``service`` runs in a virtual host with our topology, and a copy of the database ``template``; x.example leads to the MX."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    address, database = servers.rabbitmq.create_vhost(name), servers.postgres.create_database(name, template=template)
    try:
        with Background() as background:
            mx = background.enter(ScriptedMx(folder / "ledger"))
            records = {"x.example": {"MX": "10 mx.example"}, "mx.example": {"A": mx.host}, "null.example": {"MX": "0 ."}} | zone
            dns = background.enter(ZoneServer(records))
            given = {"RABBITMQ_ADDRESS": address, "RABBITMQ_API": servers.rabbitmq.api, "DNS_SERVERS": dns.address}
            given |= {"SMTP_PORT": str(mx.port), "SMTP_ALLOW_PRIVATE": "127.0.0.0/8", "DB_URI": database}
            with Stack({**given, **settings}, services=()) as stack:
                stack.start(service)
                yield World(stack, mx)
    finally:
        servers.rabbitmq.drop_vhost(name)
        servers.postgres.drop_database(name)
