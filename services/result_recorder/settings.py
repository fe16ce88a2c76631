"""The settings of result-recorder."""

from datetime import timedelta

from pydantic import Field, ValidationInfo, field_validator

from shared.amqp.keys import ACTIONS
from shared.amqp.settings import BrokerSettings
from shared.settings import Duration
from shared.storage.database import DatabaseSettings
from shared.storage.open_store import StorageSettings

_TAKEN = frozenset(
    f"rabbitmq_{name}"
    for name in ("dead", "dsn", "failure", "inbox", "outbox", "queue", "record", "results", "retries", "seal", "success")
)
"""The settings with keys, or a queue, of other use."""


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
    rabbitmq_webhook: str = Field(
        default="",
        description="key: a copy of every record, once it is in Postgres; `webhook` feeds the process webhook; empty = off",
    )

    @field_validator("rabbitmq_webhook")
    @classmethod
    def _own_key(cls, value: str, info: ValidationInfo) -> str:
        taken = {name: given for name, given in info.data.items() if name in _TAKEN} | {"actions": ACTIONS}
        if value and value in taken.values():
            # To the records, say: each copy would be copied again, for ever.
            raise ValueError(f"{value!r} leads elsewhere already: expected a key of its own, webhook")
        return value
