"""The settings of result-recorder."""

from datetime import timedelta

from pydantic import Field

from shared.amqp.settings import BrokerSettings
from shared.settings import Duration
from shared.storage.database import DatabaseSettings
from shared.storage.open_store import StorageSettings


class ServiceSettings(BrokerSettings, DatabaseSettings, StorageSettings):
    """Everything that can be set."""

    metrics_addr: str = Field(
        default="127.0.0.1:9105",
        description="host:port for /metrics, /liveness and /readiness; worker i listens on port + i; empty = off",
    )
    rabbitmq_queue: str = Field(default="records", description="the queue of records that is consumed")
    rabbitmq_qos: int = Field(
        default=3000,
        ge=1,
        le=65535,
        description="prefetch: records in hand at once; three batches: one is written, one is read, one arrives",
    )
    record_batch_size: int = Field(default=1000, ge=1, le=10_000, description="records in one transaction at most")
    record_batch_time: Duration = Field(
        default=timedelta(milliseconds=200), description="seconds that a record waits for others at most"
    )
