"""Wires router together."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from services.router.handler import Router
from services.router.settings import ServiceSettings
from services.router.snapshot import Snapshot
from shared.amqp.consumer import Consumer
from shared.amqp.keys import outcome_keys
from shared.amqp.start import open_pipeline
from shared.process import Runtime, run_service
from shared.storage.snapshot import Follower


def main(options: Mapping[str, str] | None = None, config: Path | None = None) -> int:
    """Run the process; the exit code."""
    return run_service("router", ServiceSettings, serve, options=options, config=config)


async def serve(settings: ServiceSettings, runtime: Runtime) -> None:
    """Consume ``inbox`` until the process is asked to stop."""
    snapshot = Snapshot(settings)
    follower = Follower(settings, [snapshot], name="router", refresh=settings.router_refresh)
    await follower.load()
    keys = outcome_keys(settings, retries=settings.rabbitmq_retries)
    publishes = (*keys.strategies.values(), keys.failure, keys.record)
    following = asyncio.ensure_future(follower.follow())
    following.add_done_callback(lambda task: _report(task, runtime))
    try:
        async with open_pipeline(settings, runtime, publishes=publishes) as publisher:
            router = Router(lambda: snapshot.items, keys, default=settings.router_default)
            await Consumer(settings, runtime, publisher, router.handle, home=settings.rabbitmq_inbox, operation="route").run()
    finally:
        following.cancel()


def _report(task: "asyncio.Task[None]", runtime: Runtime) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        runtime.fail(error)


if __name__ == "__main__":
    sys.exit(main())
