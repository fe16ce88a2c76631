"""Starts json-inbox: wires its adapters to its functions."""

import asyncio
import sys
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from services.json_inbox.access import Access
from services.json_inbox.actions import Actions, Redrive
from services.json_inbox.idempotency import Idempotency
from services.json_inbox.inbox import Inbox
from services.json_inbox.server import bind, build_app, serve_http
from services.json_inbox.settings import ServiceSettings
from services.json_inbox.tls import open_tls, reload_certificate
from services.json_inbox.tokens import TokenBook
from services.json_inbox.topology import HOME, check_topology
from shared.amqp.accepting import AcceptingPublisher
from shared.amqp.redrive import redrive
from shared.amqp.reopening import consume_on_and_on
from shared.process import Runtime, run_service
from shared.storage.accepted_before import AcceptedBefore
from shared.storage.database import Database
from shared.storage.open_store import open_store
from shared.storage.snapshot import Follower

NAME = "json-inbox"


async def serve(settings: ServiceSettings, runtime: Runtime) -> None:
    """Answer HTTP and do actions until the process is asked to stop."""
    async with AsyncExitStack() as stack:
        tls = open_tls(settings)
        if tls is not None:
            runtime.on_hangup.append(partial(reload_certificate, tls, settings))
        listener = bind(settings)
        stack.callback(listener.close)
        store = open_store(settings)
        stack.push_async_callback(store.close)
        database = Database(settings, name=NAME)
        stack.push_async_callback(database.close)

        async def run_redrive(action: Redrive) -> int:
            return await redrive(settings, limit=action.limit, reason=action.reason, dry_run=action.dry_run)

        verified = asyncio.Event()

        async def verify(_: object) -> None:
            await check_topology(settings)
            verified.set()

        publisher = AcceptingPublisher(settings, name=NAME, verify=verify)
        inbox = Inbox(settings, runtime, store, publisher, AcceptedBefore(Path(settings.accepted_dir)))
        actions = Actions(inbox, store, run_redrive)
        book = TokenBook(settings)
        follower = Follower(settings, [book], name=NAME, refresh=settings.tokens_refresh)
        await follower.load()
        access = Access(book, always=settings.http_token_required)
        idempotency = Idempotency(inbox, database)
        app = build_app(inbox, database, actions, idempotency)
        _start(stack, runtime, follower.follow())
        _start(stack, runtime, idempotency.sweep())
        _start(stack, runtime, publisher.run(runtime))
        consuming = _start(stack, runtime, consume_on_and_on(settings, runtime, actions.handle, home=HOME, verified=verified))
        serving = _start(stack, runtime, serve_http(inbox, app, access, listener, tls))
        await runtime.run_until_stopping()
        # Both finish what is in hand; only then may the publisher go.
        await asyncio.gather(serving, consuming)


def _start(stack: AsyncExitStack, runtime: Runtime, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    """A task that ends the process when it fails, and is ended with the ``stack``."""
    task = asyncio.get_running_loop().create_task(work)
    stack.push_async_callback(_cancel, task)
    task.add_done_callback(partial(_report, runtime))
    return task


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task


def _report(runtime: Runtime, task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        runtime.fail(error)


def main(options: Mapping[str, str] | None = None, config: Path | None = None) -> int:
    """Run the process; returns its exit code."""
    return run_service(NAME, ServiceSettings, serve, options=options, config=config)


if __name__ == "__main__":
    sys.exit(main())
