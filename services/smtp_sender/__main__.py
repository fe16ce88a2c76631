"""Wires smtp-sender together."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from services.smtp_sender.opening import Manners
from services.smtp_sender.pool import Limits, Pool
from services.smtp_sender.pool_book import PoolBook
from services.smtp_sender.route import Resolver
from services.smtp_sender.settings import ServiceSettings
from services.smtp_sender.tls import Tls
from services.smtp_sender.wiring import make_courier
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
    return run_service("smtp-sender", ServiceSettings, serve, options=options, config=config)


async def serve(settings: ServiceSettings, runtime: Runtime) -> None:
    """Consume ``outbox`` until the process is asked to stop."""
    limits = Limits(settings.smtp_connections, settings.connection_maxmessages, settings.connection_idle.total_seconds())
    pool = Pool(limits, Manners(settings.smtp_hostname, Tls(settings.smtp_ca_file)))
    lifetime = settings.dns_timeout.total_seconds()
    resolver = None if settings.smtp_sink_address else Resolver(settings.dns_servers, lifetime, validates=settings.dns_validates)
    store = open_store(settings)
    journal = FileJournal(Path(settings.journal_dir))
    contents = Contents(store, settings.client_key_prefix, domain=settings.smtp_hostname)
    book = PoolBook(settings)
    stops = StopBook(settings)
    follower = Follower(settings, [*book.followed, *stops.followed], name="smtp-sender", refresh=settings.pools_refresh)
    await follower.load()
    runtime.on_hangup.append(book.reload)
    patterns = load_patterns(settings.response_patterns)
    courier = make_courier(settings, pool, resolver, contents, book=book, patterns=patterns)
    keys = outcome_keys(settings, retries=settings.rabbitmq_retries)
    async with open_pipeline(settings, runtime, publishes=keys.published) as publisher:
        notifying = Notifying(contents.fetch, settings.smtp_hostname, settings, keys)
        delivering = Delivering(
            strategy="smtp",
            home=settings.rabbitmq_outbox,
            attempt=courier.attempt,
            once=Once(journal),
            settings=settings,
            keys=keys,
            runtime=runtime,
            notifying=notifying,
            patterns=patterns,
            put_away=Depot(contents, settings.sender_threshold).put_away,
            stops=stops.current,
        )
        chores = [asyncio.ensure_future(_tidy(pool)), asyncio.ensure_future(follower.follow())]
        for chore in chores:
            chore.add_done_callback(lambda task: _report(task, runtime))
        try:
            await Consumer(settings, runtime, publisher, delivering.handle, home=delivering.home, operation="deliver").run()
        finally:
            for chore in chores:
                chore.cancel()
            await pool.close()
            await store.close()
            journal.close()


async def _tidy(pool: Pool) -> None:
    while True:
        await asyncio.sleep(1)
        pool.close_idle()


def _report(task: "asyncio.Task[None]", runtime: Runtime) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        runtime.fail(error)


if __name__ == "__main__":
    sys.exit(main())
