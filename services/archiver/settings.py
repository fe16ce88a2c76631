"""The settings of archiver."""

from datetime import timedelta

from pydantic import Field

from shared.settings import Duration
from shared.storage.database import DatabaseSettings
from shared.storage.open_store import StorageSettings


class ServiceSettings(DatabaseSettings, StorageSettings):
    """Everything that can be set."""

    metrics_addr: str = Field(
        default="127.0.0.1:9106",
        description="host:port for /metrics, /liveness and /readiness; worker i listens on port + i; empty = off",
    )
    archive_interval: Duration = Field(default=timedelta(minutes=30), gt=timedelta(), description="time between two runs")
    wait_before_archive: Duration = Field(
        default=timedelta(hours=2160), description="age of a verdict, by its last change, at which it moves to the archive"
    )
    archive_batch_size: int = Field(
        default=1000, ge=1, le=100_000, description="rows in one statement; batches follow until none is left"
    )
    archive_retention_period: Duration = Field(
        default=timedelta(hours=87672), description="how long a verdict stays in the archive, counted from archiving"
    )
    sweep_interval: Duration = Field(
        default=timedelta(hours=6), description="time between two looks through the message store for payloads without a mail"
    )
    max_delivertime: Duration = Field(
        default=timedelta(days=1), description="the senders' setting: payloads are left alone for this long and 24 h"
    )
    overdue_after: Duration = Field(
        default=timedelta(minutes=5), description="mail that is past the time of its next attempt by this much is told"
    )
