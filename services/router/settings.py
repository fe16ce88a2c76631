"""The settings of router."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from shared.amqp.settings import BrokerSettings
from shared.settings import Duration
from shared.storage.database import DatabaseSettings


class ServiceSettings(BrokerSettings, DatabaseSettings):
    """Every knob of router."""

    rabbitmq_queue: str = Field(default="inbox", description="the one queue consumed")
    rabbitmq_qos: int = Field(default=200, ge=1, le=65535, description="prefetch: messages in hand at once")
    metrics_addr: str = Field(
        default="127.0.0.1:9102",
        description="host:port for /metrics, /liveness and /readiness; worker i listens on port + i; empty = off",
    )
    router_default: str = Field(
        default="smtp",
        pattern="^(smtp|seal|fail)$",
        description="strategy when no rule matches: smtp, seal, or fail (a failure result)",
    )
    router_snapshot: Path = Field(
        default=Path("/var/lib/mailwarren/rules.json"),
        description="file that keeps the last rules seen, so that a restart works while Postgres is down",
    )
    router_refresh: Duration = Field(
        default=timedelta(seconds=60), description="seconds after which the rules are read again even when nothing was notified"
    )
