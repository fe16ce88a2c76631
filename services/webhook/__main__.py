"""Wires webhook together."""

import asyncio
import sys
from collections.abc import Awaitable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

from services.webhook.book import Book, Snapshot
from services.webhook.client import Client
from services.webhook.gathering import Gatherer
from services.webhook.handler import Poster
from services.webhook.settings import ServiceSettings
from services.webhook.waiting import HOLD, put_aside
from shared.amqp.batches import BatchConsumer
from shared.amqp.consumer import Consumer
from shared.amqp.publisher import Publisher
from shared.amqp.start import open_pipeline
from shared.amqp.topology.default import OPTIONAL_WAITS
from shared.process import Runtime, run_service
from shared.storage.database import Database
from shared.storage.snapshot import Follower
from shared.trouble import BadSetting

HOME = "webhook"
"""The routing key that brings what was held back to the queue of records, and to no other."""
CURE = "its queues are in topology-webhook.json: mailwarren amqpinit URL < topology-webhook.json"
LOOK = timedelta(seconds=0.5)
"""Between two looks at whether the endpoints are known."""


def main(options: Mapping[str, str] | None = None, config: Path | None = None) -> int:
    """Run the process; the exit code."""
    return run_service("webhook", ServiceSettings, serve, options=options, config=config)


async def serve(settings: ServiceSettings, runtime: Runtime) -> None:
    """Consume both queues until the process is asked to stop."""
    client = Client(settings)
    database = Database(settings, name="webhook")
    snapshot = Snapshot(settings)
    follower = Follower(settings, [snapshot], name="webhook", refresh=settings.webhook_refresh)
    await follower.load()
    following = asyncio.ensure_future(follower.follow())
    following.add_done_callback(lambda task: _report(task, runtime))
    book = Book(database, patience=settings.webhook_disable_after)
    publishes = (settings.webhook_batches, HOME, settings.rabbitmq_dead)
    try:
        async with open_pipeline(settings, runtime, publishes=publishes, waits=OPTIONAL_WAITS) as publisher:
            gathering = _gather(settings, runtime, publisher, snapshot)
            poster = Poster(settings, lambda: snapshot.endpoints, client, book, knows=snapshot.knows)
            changes = {"rabbitmq_queue": settings.webhook_batches, "rabbitmq_qos": settings.webhook_batches_qos}
            batches = settings.model_copy(update=changes)
            post = partial(put_aside, poster.handle, publisher.publish_each)
            posting = Consumer(batches, runtime, publisher, post, home=settings.webhook_batches, hold=HOLD).run()
            await _run_together(gathering, posting)
    except BadSetting as error:
        raise BadSetting(f"{error}; {CURE}") from None
    finally:
        following.cancel()
        await database.close()


async def _gather(settings: ServiceSettings, runtime: Runtime, publisher: Publisher, snapshot: Snapshot) -> None:
    async def know_endpoints() -> None:
        while not snapshot.is_known:
            await runtime.pause(LOOK)

    gatherer = Gatherer(settings, lambda: snapshot.endpoints, publisher.publish_surely, is_fresh=lambda: snapshot.is_fresh)
    await BatchConsumer(
        settings,
        runtime,
        publisher,
        gatherer.handle_batch,
        home=HOME,
        recovered=know_endpoints,
        within=settings.webhook_batch_time.total_seconds(),
        hold=HOLD,
    ).run()


async def _run_together(*works: Awaitable[None]) -> None:
    """Until all have ended; the first error ends the others and is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1)


def _report(task: "asyncio.Task[None]", runtime: Runtime) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        runtime.fail(error)


if __name__ == "__main__":
    sys.exit(main())
