"""The RabbitMQ settings that every process has: MailerQ's names."""

from datetime import timedelta
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from shared.settings import Duration, Settings


class BrokerSettings(Settings):
    """Where RabbitMQ is, and the routing keys on the exchange."""

    rabbitmq_address: str = Field(
        default="amqp://guest:guest@localhost/",
        description="amqp[s]://user:password@host:port/vhost; a comma list for a cluster",
    )
    rabbitmq_api: str = Field(
        default="", description="management API, http://user:password@host:port; empty = bindings not verified"
    )
    rabbitmq_exchange: str = Field(default="mailwarren", description="the exchange all keys are published to")
    rabbitmq_outbox: str = Field(default="outbox", description="key: mail to send over SMTP")
    rabbitmq_seal: str = Field(default="seal", description="key: mail to send sealed")
    rabbitmq_retries: str = Field(default="retries", description="key: mail to try again")
    rabbitmq_success: str = Field(default="success", description="key: results of delivered mail; empty = off")
    rabbitmq_failure: str = Field(default="failure", description="key: results of mail failed for good; empty = off")
    rabbitmq_results: str = Field(default="", description="key: an extra copy of every final result; empty = off")
    rabbitmq_inbox: str = Field(default="inbox", description="key: mail that came in, to be routed")
    rabbitmq_local: str = Field(default="", description="key: mail for local addresses; empty = off")
    rabbitmq_reports: str = Field(default="", description="key: reports (DSN, MDN, DMARC, ARF) to local addresses; empty = off")
    rabbitmq_refused: str = Field(default="", description="key: mail refused at the door; empty = off")
    rabbitmq_dsn: str = Field(default="dsn", description="key: bounce messages that we make")
    rabbitmq_record: str = Field(default="record", description="key: the copy for the result-recorder")
    rabbitmq_dead: str = Field(default="dead", description="key: messages parked for an operator")
    rabbitmq_queue: str = Field(default="", description="the one queue consumed")
    rabbitmq_declare: bool = Field(default=False, description="apply topology.json at start, and a queue for every unbound key")
    rabbitmq_durable: bool = Field(default=True, description="declared exchanges and queues are durable")
    rabbitmq_persistent: bool = Field(default=True, description="messages are written to disk by the broker")
    rabbitmq_lazy: bool = Field(
        default=False, description="declared queues are classic lazy queues (P1, no loss, no longer holds)"
    )
    rabbitmq_maxpriority: int | None = Field(
        default=None, ge=1, le=255, description="declared queues are classic priority queues (P1 no longer holds)"
    )
    rabbitmq_qos: int = Field(default=200, ge=1, le=65535, description="prefetch: messages in hand at once")
    rabbitmq_consumer_priority: int = Field(
        default=0,
        ge=-1000,
        le=1000,
        description="x-priority of this consumer: one with a lower priority gets only what those above it have no hand free for "
        "(rabbitmq-qos); workers get this one, and each the next lower",
    )
    rabbitmq_throttle: int = Field(default=1000, ge=1, description="publishes in flight, waiting for their confirm")
    rabbitmq_encoding: str = Field(
        default="", pattern="^(gzip)?$", description="gzip: compress what is published; both are always read"
    )
    rabbitmq_verify: bool = Field(default=True, description="check the broker's certificate on amqps")
    hold_time: Duration = Field(
        default=timedelta(seconds=5),
        description="seconds a message is kept in hand when something of ours is down, before it is parked in a wait queue",
    )

    @field_validator("rabbitmq_address")
    @classmethod
    def _amqp(cls, value: str) -> str:
        for url in value.split(","):
            try:
                parts = urlsplit(url.strip())
                is_right = parts.scheme in ("amqp", "amqps") and bool(parts.hostname) and parts.port != 0
            except ValueError:
                is_right = False
            if not is_right:
                raise ValueError("expected amqp://user:password@host:port/vhost")
        return value
