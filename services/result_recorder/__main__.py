"""Wires result-recorder together."""

import asyncio
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from services.result_recorder.progress import report_progress
from services.result_recorder.recorder import Recorder, wait_for_database
from services.result_recorder.settings import ServiceSettings
from shared.amqp.batches import BatchConsumer
from shared.amqp.depth import QueueDepth
from shared.amqp.start import open_pipeline
from shared.process import Runtime, run_service
from shared.storage.database import Database
from shared.storage.open_store import open_store
from shared.storage.records import RecordTables


def main(options: Mapping[str, str] | None = None, config: Path | None = None) -> int:
    """Run the process; the exit code."""
    return run_service("result-recorder", ServiceSettings, serve, options=options, config=config)


async def serve(settings: ServiceSettings, runtime: Runtime) -> None:
    """Consume ``records`` until the process is asked to stop."""
    store = open_store(settings)
    tables = RecordTables(settings)
    database = Database(settings, name="result-recorder progress")
    depth = QueueDepth(settings, name="result-recorder looks")
    recorder = Recorder(tables, store, client_prefix=settings.client_key_prefix)
    async with open_pipeline(settings, runtime, publishes=(settings.rabbitmq_dead,)) as publisher:
        reporting = asyncio.ensure_future(
            report_progress(
                database,
                runtime,
                queue=settings.rabbitmq_queue,
                batch=settings.record_batch_size,
                count_waiting=depth.count,
            )
        )
        reporting.add_done_callback(partial(_fail_with, runtime))
        try:
            await BatchConsumer(
                settings,
                runtime,
                publisher,
                recorder.handle_batch,
                home=settings.rabbitmq_record,
                recovered=partial(wait_for_database, tables, runtime),
                most=settings.record_batch_size,
                within=settings.record_batch_time.total_seconds(),
            ).run()
        finally:
            reporting.cancel()
            await asyncio.wait({reporting}, timeout=2)
            await asyncio.gather(depth.close(), database.close(), tables.close(), store.close(), return_exceptions=True)


def _fail_with(runtime: Runtime, task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        runtime.fail(error)


if __name__ == "__main__":
    sys.exit(main())
