"""A courier with a name server and scripted MX hosts of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from services.smtp_sender.handler import Courier
from services.smtp_sender.opening import Manners
from services.smtp_sender.pool import Limits, Pool
from services.smtp_sender.pool_book import PoolBook
from services.smtp_sender.route import Resolver
from services.smtp_sender.session import Timeouts
from services.smtp_sender.settings import ServiceSettings
from services.smtp_sender.tls import Tls
from services.smtp_sender.wiring import make_courier
from shared.delivery.finished import Finished
from shared.delivery.patterns_file import load_patterns
from shared.storage.contents import Contents
from shared.storage.payloads import MissingPayload
from shared.trouble import Unavailable
from shared.wire.instructions import parse_instructions
from shared.wire.message import Message
from tests.integration.smtp_sender.peers import SHORT
from tests.support.dns_zone import ZoneServer
from tests.support.mx import ScriptedMx

LOOPBACK = "127.0.0.0/8"


class Store:
    """A message store in memory."""

    def __init__(self) -> None:
        self.payloads: dict[str, bytes] = {}
        self.is_down = False

    async def fetch(self, key: str) -> bytes:
        """The payload. Raises MissingPayload or Unavailable."""
        if self.is_down:
            raise Unavailable("the store is down")
        if key not in self.payloads:
            raise MissingPayload(key)
        return self.payloads[key]


class Desk:
    """Sends messages and shows the attempt as it stands in results."""

    def __init__(self, courier: Courier, pool: Pool, store: Store, dns: ZoneServer) -> None:
        self.courier, self.pool, self.store, self.dns = courier, pool, store, dns

    async def send(self, recipient: str, **properties: Any) -> dict[str, Any]:
        """One attempt for a message with these properties; its result."""
        finished = await self.attempt(recipient, **properties)
        return finished.attempt.to_document()

    async def attempt(self, recipient: str, **properties: Any) -> Finished:
        """One attempt."""
        named = {name.replace("_", "-"): value for name, value in properties.items()}
        base = {"id": "id-1", "seen": "2026-03-01 12:00:00", "envelope": "r@a.example", "mime": "Subject: x\r\n\r\nhello\r\n"}
        message = Message(base | {"recipient": recipient} | named)
        return await self.courier.attempt(message, parse_instructions(message))


@asynccontextmanager
async def desk(
    zone: Mapping[str, Any] | None = None,
    *,
    mx: ScriptedMx | None = None,
    ca: Path | None = None,
    limits: Limits | None = None,
    timeouts: Timeouts = SHORT,
    name_server: str = "",
    **settings: Any,
) -> AsyncIterator[Desk]:
    """A desk; x.example leads to ``mx`` as mx.example when there is one. ``name_server``: another one than the zone's."""
    records: dict[str, Any] = dict(zone or {})
    if mx is not None:
        records |= {"x.example": {"MX": "10 mx.example"}, "mx.example": {"A": mx.host}}
        settings = {"smtp_port": mx.port, "smtp_allow_private": LOOPBACK} | settings
    settings = {"smtp_hostname": "me.example", "smtp_connect_timeout": 1} | settings
    given = ServiceSettings.model_validate(settings)
    pool = Pool(limits or Limits(20, 100, 5.0), Manners("me.example", Tls(str(ca) if ca else ""), timeouts))
    store = Store()
    contents = Contents(store, "", domain="me.example")  # type: ignore[arg-type] # only fetch is used
    async with ZoneServer(records) as dns:
        resolver = None if given.smtp_sink_address else Resolver((name_server or dns.address,), 1.0)
        try:
            patterns = load_patterns(given.response_patterns)
            courier = make_courier(given, pool, resolver, contents, book=PoolBook(given), patterns=patterns)
            yield Desk(courier, pool, store, dns)
        finally:
            await pool.close()


def what(result: dict[str, Any]) -> tuple[str, str]:
    """State and result."""
    return result["state"], result["result"]
