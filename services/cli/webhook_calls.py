"""What ``mailwarren webhooks`` does at an endpoint or in the queues: a test now, a replay of what Postgres keeps."""

import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from services.webhook.batch import make_batches
from services.webhook.client import Answer, Client
from services.webhook.events import make_event
from services.webhook.settings import ServiceSettings as ServiceSettings
from shared.amqp.publisher import Publisher
from shared.delivery.webhooks import Endpoint, parse_endpoint
from shared.storage.database import Connection, Database
from shared.storage.documents import fetch_document
from shared.storage.webhooks import TABLE, fetch_final
from shared.trouble import BadSetting, BrokerLost, Unavailable

PATIENCE = 10.0
"""Seconds to wait for RabbitMQ."""


async def send_test(settings: ServiceSettings, name: str) -> Answer | None:
    """Post one event of the type ``test``; None: there is no such endpoint. Raises BadSetting or Unavailable."""
    database = Database(settings, name="mailwarren webhooks")
    try:
        async with database.connection() as connection:
            endpoint = await _find(connection, name)
    finally:
        await database.close()
    if endpoint is None:
        return None
    ident, moment = secrets.token_hex(16), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {"id": f"{ident}.0.test", "type": "test", "timestamp": moment, "data": {"webhook": name}}
    return await Client(settings).post(endpoint, f"msg_{ident}", orjson.dumps({"events": [event]}))


async def replay_events(settings: ServiceSettings, name: str, since: datetime, *, dry_run: bool) -> int | None:
    """Publish the final results since then for one endpoint; how many there were. None: there is no such endpoint.

    Raises BadSetting when it cannot be, Unavailable when Postgres or RabbitMQ is out of reach.
    """
    database = Database(settings, name="mailwarren webhooks")
    publisher: Publisher | None = None
    count = 0
    try:
        async with database.connection() as connection:
            endpoint = await _find(connection, name)
        if endpoint is None:
            return None
        _check(endpoint)
        if not dry_run:
            publisher = await Publisher.open(settings, name="mailwarren webhooks", patience=PATIENCE)
        async for rows in _page(database, since):
            events = [make_event(_render(row), row["status"]) for row in rows if row["status"] in endpoint.events]
            count += len(events)
            if publisher is not None:
                batches = make_batches(
                    name,
                    [event.document for event in events],
                    now=datetime.now(UTC),
                    most=settings.webhook_batch_size,
                    octets=settings.webhook_batch_bytes,
                )
                await publisher.publish_all([batch.render(settings.webhook_batches) for batch in batches])
        return count
    except BrokerLost as error:
        raise Unavailable(str(error)) from None
    finally:
        if publisher is not None:
            await publisher.close()
        await database.close()


async def _find(connection: Connection, name: str) -> Endpoint | None:
    row = await fetch_document(connection, TABLE, name)
    try:
        return None if row is None else parse_endpoint(row)
    except ValueError as error:
        raise BadSetting(f"Postgres: webhook {name!r}: {error}") from None


def _check(endpoint: Endpoint) -> None:
    if endpoint.is_enabled is False:
        raise BadSetting(f"webhook {endpoint.name!r} is disabled: `mailwarren webhooks enable {endpoint.name}` first")
    if endpoint.tags:
        raise BadSetting(
            f"webhook {endpoint.name!r} wants some tags only, and Postgres does not keep tags: it cannot be replayed"
        )
    if not endpoint.events & {"delivered", "failed"}:
        raise BadSetting(f"webhook {endpoint.name!r} wants neither delivered nor failed: there is nothing to replay")


async def _page(database: Database, since: datetime) -> AsyncIterator[list[Mapping[str, Any]]]:
    after = (int(since.timestamp()), "")
    while True:
        async with database.connection() as connection:
            rows = await fetch_final(connection, after)
        if not rows:
            return
        yield rows
        after = (rows[-1]["updated_at"], rows[-1]["id"])


def _render(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the mail's JSON, as far as it goes."""
    renamed = {
        "id": row["id"],
        "transaction": row["transaction"],
        "message-id": row["message_id"],
        "envelope": row["sender"],
        "recipient": row["recipient"],
        "subject": row["subject"],
        "results": row["results"],
    }
    return renamed | {"replayed": True}
