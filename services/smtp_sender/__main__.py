"""Wires smtp-sender together."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from services.smtp_sender.handler import Courier
from services.smtp_sender.opening import Manners
from services.smtp_sender.pool import Limits, Pool
from services.smtp_sender.route import Resolver
from services.smtp_sender.settings import ServiceSettings
from services.smtp_sender.tls import Tls
from shared.amqp.consumer import Consumer
from shared.amqp.delivering import Delivering
from shared.amqp.keys import outcome_keys
from shared.amqp.start import open_pipeline
from shared.process import Runtime, run_service
from shared.storage.contents import Contents
from shared.storage.open_store import open_store


def main(options: Mapping[str, str] | None = None, config: Path | None = None) -> int:
    """Run the process; the exit code."""
    return run_service("smtp-sender", ServiceSettings, serve, options=options, config=config)


async def serve(settings: ServiceSettings, runtime: Runtime) -> None:
    """Consume ``outbox`` until the process is asked to stop."""
    limits = Limits(settings.smtp_connections, settings.connection_maxmessages, settings.connection_idle.total_seconds())
    pool = Pool(limits, Manners(settings.smtp_hostname, Tls(settings.smtp_ca_file)))
    resolver = None if settings.smtp_sink_address else Resolver(settings.dns_servers, settings.dns_timeout.total_seconds())
    store = open_store(settings)
    contents = Contents(store, settings.client_key_prefix, domain=settings.smtp_hostname)
    courier = Courier(settings, pool, resolver, contents)
    keys = outcome_keys(settings, retries=settings.rabbitmq_retries)
    async with open_pipeline(settings, runtime, publishes=keys.published) as publisher:
        delivering = Delivering("smtp", settings.rabbitmq_outbox, courier.attempt, settings, keys, runtime)
        tidying = asyncio.ensure_future(_tidy(pool))
        try:
            await Consumer(settings, runtime, publisher, delivering.handle, home=delivering.home).run()
        finally:
            tidying.cancel()
            await pool.close()
            await store.close()


async def _tidy(pool: Pool) -> None:
    while True:
        await asyncio.sleep(1)
        pool.close_idle()


if __name__ == "__main__":
    sys.exit(main())
