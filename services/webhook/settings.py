"""The settings of webhook."""

import ipaddress
from datetime import timedelta
from pathlib import Path

from pydantic import Field, field_validator

from shared.amqp.settings import BrokerSettings
from shared.settings import Duration, Durations, Strings
from shared.storage.database import DatabaseSettings


class ServiceSettings(BrokerSettings, DatabaseSettings):
    """Every knob of webhook."""

    rabbitmq_queue: str = Field(default="webhook", description="the queue with copies of the records")
    rabbitmq_qos: int = Field(default=1000, ge=1, le=65535, description="prefetch: messages in hand at once")
    metrics_addr: str = Field(
        default="127.0.0.1:9107",
        description="host:port for /metrics, /liveness and /readiness; worker i listens on port + i; empty = off",
    )
    webhook_batches: str = Field(
        default="webhook.batches", min_length=1, description="queue of the batches to be posted, and the key that leads to it"
    )
    webhook_batches_qos: int = Field(default=100, ge=1, le=10000, description="batches in hand at once, shared by all endpoints")
    webhook_batch_size: int = Field(default=100, ge=1, le=1000, description="events in one request at most")
    webhook_batch_bytes: int = Field(
        default=512 * 1024,
        ge=1024,
        le=8 * 1024 * 1024,
        description="bytes of events in one request at most; one event may be more",
    )
    webhook_batch_time: Duration = Field(default=timedelta(seconds=1), description="seconds that events are gathered for")
    webhook_connections: int = Field(default=4, ge=1, le=100, description="requests to one endpoint at once")
    webhook_connect_timeout: Duration = Field(default=timedelta(seconds=5), description="seconds to connect to one address")
    webhook_timeout: Duration = Field(default=timedelta(seconds=30), description="seconds for one request, everything included")
    webhook_retry_interval: Durations = Field(
        default=tuple(timedelta(seconds=number) for number in (5, 30, 60, 300, 600, 1800)),
        min_length=1,
        description="seconds between attempts to post a batch, the last repeats",
    )
    webhook_retry_after_max: Duration = Field(
        default=timedelta(hours=2), description="seconds that an endpoint may ask for in Retry-After; more is cut"
    )
    webhook_max_age: Duration = Field(default=timedelta(hours=24), description="seconds after which events are dropped, untaken")
    webhook_disable_after: Duration = Field(
        default=timedelta(hours=24), description="seconds of nothing but failures after which an endpoint is disabled"
    )
    webhook_allow_http: bool = Field(default=False, description="post to http:// too: events travel in clear text")
    webhook_allow_private: Strings = Field(
        default=(), description="CIDRs of private addresses that endpoints may have (an inner network, tests)"
    )
    webhook_ca_file: str = Field(default="", description="PEM file of further certification authorities to trust")
    webhook_snapshot: Path = Field(
        default=Path("/var/lib/mailwarren/webhooks.json"),
        description="file that keeps the last endpoints seen, secrets too, so that a restart works while Postgres is down",
    )
    webhook_refresh: Duration = Field(
        default=timedelta(seconds=60), description="seconds after which endpoints are read again even when nothing was notified"
    )

    @field_validator("webhook_allow_private")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(f"{network!r}: expected a network, 10.0.0.0/8") from None
        return value
