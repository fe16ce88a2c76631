"""Wires smtp-inbox together."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from services.smtp_inbox.door import Door
from services.smtp_inbox.server import Server, serve_smtp
from services.smtp_inbox.settings import ServiceSettings, check
from services.smtp_inbox.tls import open_tls, reload_certificate
from shared.acceptance import Acceptance
from shared.amqp.accepting import AcceptingPublisher, verify_keys
from shared.process import Runtime, run_service
from shared.storage.open_store import open_store


def main(options: Mapping[str, str] | None = None, config: Path | None = None) -> int:
    """Run the process; the exit code."""
    return run_service("smtp-inbox", ServiceSettings, serve, options=options, config=config)


async def serve(settings: ServiceSettings, runtime: Runtime) -> None:
    """Receive mail until the process is asked to stop. Without RabbitMQ it listens all the same, and answers 451."""
    check(settings)
    tls = open_tls(settings)
    if tls is not None:
        runtime.on_hangup.append(partial(reload_certificate, tls, settings))
    store = open_store(settings)
    keys = (settings.rabbitmq_inbox, settings.rabbitmq_record)
    publisher = AcceptingPublisher(settings, name=runtime.service, verify=partial(verify_keys, settings, runtime.service, keys))
    acceptance = Acceptance(
        store, publisher, settings.rabbitmq_inbox, settings.storage_threshold, settings.data_processing_timeout
    )
    try:
        await serve_smtp(Server(Door(settings, settings.relay_policy(), tls, acceptance, publisher)), runtime)
    finally:
        await store.close()


if __name__ == "__main__":
    sys.exit(main())
