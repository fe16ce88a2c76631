"""Wires result-recorder together."""

import asyncio
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

from services.result_recorder.metrics import LAG
from services.result_recorder.progress import report_progress
from services.result_recorder.recorder import ABREAST, Recorder, wait_for_database
from services.result_recorder.settings import ServiceSettings
from services.result_recorder.traced import trace_batches
from shared.amqp.batches import BatchConsumer
from shared.amqp.depth import QueueDepth
from shared.amqp.start import open_pipeline
from shared.process import Runtime, run_service
from shared.storage.database import Database
from shared.storage.open_store import open_store
from shared.storage.records import RecordTables
from shared.tracing import is_tracing

CLEANING_TIME = timedelta(seconds=5)
"""For payloads of finished mail when the process ends."""


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
    LAG.set_function(lambda: recorder.lag.read(time.time()))

    async def count_waiting() -> int:
        waiting = await depth.count()
        recorder.lag.count(waiting, time.time())
        return waiting

    async with open_pipeline(settings, runtime, publishes=(settings.rabbitmq_dead,)) as publisher:
        batch, queue = settings.record_batch_size, settings.rabbitmq_queue
        reporting = report_progress(database, runtime, recorder.lag, queue=queue, batch=batch, count_waiting=count_waiting)
        beside = {asyncio.ensure_future(reporting), asyncio.ensure_future(recorder.cleaner.run())}
        for task in beside:
            task.add_done_callback(partial(_fail_with, runtime))
        try:
            await BatchConsumer(
                settings,
                runtime,
                publisher,
                trace_batches(recorder.handle_batch, settings.rabbitmq_queue) if is_tracing() else recorder.handle_batch,
                home=settings.rabbitmq_record,
                recovered=partial(wait_for_database, tables, runtime),
                prepare=recorder.read_ahead,
                most=settings.record_batch_size,
                within=settings.record_batch_time.total_seconds(),
                abreast=ABREAST,
                copies_to=settings.rabbitmq_webhook,
            ).run()
            await recorder.cleaner.finish(CLEANING_TIME)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside, timeout=2)
            closing = (depth.close(), database.close(), recorder.close(), store.close())
            await asyncio.gather(*closing, return_exceptions=True)


def _fail_with(runtime: Runtime, task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        runtime.fail(error)


if __name__ == "__main__":
    sys.exit(main())
