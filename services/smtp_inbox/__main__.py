"""Wires smtp-inbox together."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from services.smtp_inbox.door import Door
from services.smtp_inbox.guard import check_local_mail, check_somebody_served
from services.smtp_inbox.keeping import STREAMED, Budget, Streaming
from services.smtp_inbox.locals import LocalRecipients
from services.smtp_inbox.login import open_authenticator
from services.smtp_inbox.server import Server, serve_smtp
from services.smtp_inbox.settings import ServiceSettings, check
from services.smtp_inbox.tls import open_tls, reload_certificate
from shared.acceptance import Acceptance
from shared.amqp.accepting import AcceptingPublisher, verify_keys
from shared.process import Runtime, run_service
from shared.storage.accepted_before import AcceptedBefore
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
    authenticator = open_authenticator(settings)
    if authenticator is not None:
        runtime.on_hangup.append(authenticator.backend.reload)
    local = LocalRecipients(settings)
    runtime.on_hangup.append(local.reload)
    await local.load()
    check_somebody_served(settings, local)
    await check_local_mail(settings, local)
    store = open_store(settings)
    keys = (
        settings.rabbitmq_inbox,
        settings.rabbitmq_record,
        settings.rabbitmq_local,
        settings.rabbitmq_reports,
        settings.rabbitmq_refused,
    )
    publisher = AcceptingPublisher(settings, name=runtime.service, verify=partial(verify_keys, settings, runtime.service, keys))
    acceptance = Acceptance(
        store,
        publisher,
        settings.rabbitmq_inbox,
        settings.inbox_threshold,
        settings.data_processing_timeout,
        AcceptedBefore(Path(settings.accepted_dir)),
        min(settings.local_max_message, settings.storage_max_message),
    )
    spool = Budget(settings.inbound_smtp_max_spool)
    threshold = settings.inbox_threshold
    streaming = None if threshold is None else Streaming(store.begin, spool, max(STREAMED, threshold))
    try:
        door = Door(
            settings, settings.relay_policy(), tls, acceptance, publisher, local, authenticator=authenticator, streaming=streaming
        )
        await serve_smtp(Server(door), runtime)
    finally:
        if authenticator is not None:
            await authenticator.backend.close()
        await store.close()


if __name__ == "__main__":
    sys.exit(main())
