"""Wires seal-sender together."""

import asyncio
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from services.seal_sender.client import SealClient
from services.seal_sender.handler import STRATEGY, Sealer
from services.seal_sender.settings import ServiceSettings
from shared.amqp.consumer import Consumer
from shared.amqp.delivering import Delivering
from shared.amqp.keys import outcome_keys
from shared.amqp.notifying import Notifying
from shared.amqp.once import Once
from shared.amqp.start import open_pipeline
from shared.delivery.patterns_file import load_patterns
from shared.process import Runtime, run_service
from shared.storage.contents import Contents
from shared.storage.deposit import Depot
from shared.storage.journal import FileJournal
from shared.storage.open_store import open_store
from shared.storage.snapshot import Follower
from shared.storage.stop_book import StopBook


def main(options: Mapping[str, str] | None = None, config: Path | None = None) -> int:
    """Run the process; the exit code."""
    return run_service("seal-sender", ServiceSettings, serve, options=options, config=config)


async def serve(settings: ServiceSettings, runtime: Runtime) -> None:
    """Consume ``seal`` until the process is asked to stop."""
    client = SealClient(settings)
    store = open_store(settings)
    journal = FileJournal(Path(settings.journal_dir))
    contents = Contents(store, settings.client_key_prefix, domain=socket.gethostname())
    sealer = Sealer(client, contents)
    stops = StopBook(settings)
    follower = Follower(settings, stops.followed, name="seal-sender", refresh=settings.stops_refresh)
    await follower.load()
    following = asyncio.ensure_future(follower.follow())
    following.add_done_callback(lambda task: _report(task, runtime))
    keys = outcome_keys(settings, retries=f"{settings.rabbitmq_seal}.retries")
    try:
        async with open_pipeline(settings, runtime, publishes=keys.published) as publisher:
            notifying = Notifying(contents.fetch, socket.gethostname(), settings, keys)
            delivering = Delivering(
                strategy=STRATEGY,
                home=settings.rabbitmq_seal,
                attempt=sealer.attempt,
                once=Once(journal),
                settings=settings,
                keys=keys,
                runtime=runtime,
                notifying=notifying,
                patterns=load_patterns(settings.response_patterns),
                put_away=Depot(contents, settings.sender_threshold).put_away,
                stops=stops.current,
            )
            await Consumer(settings, runtime, publisher, delivering.handle, home=delivering.home, operation="deliver").run()
    finally:
        following.cancel()
        await client.close()
        await store.close()
        journal.close()


def _report(task: "asyncio.Task[None]", runtime: Runtime) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        runtime.fail(error)


if __name__ == "__main__":
    sys.exit(main())
