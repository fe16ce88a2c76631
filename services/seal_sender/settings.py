"""The settings of seal-sender."""

from datetime import timedelta
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from shared.amqp.settings import BrokerSettings
from shared.delivery.settings import RetrySettings
from shared.loopback import is_loopback
from shared.settings import Duration
from shared.storage.open_store import StorageSettings
from shared.storage.stop_book import StopSettings


class ServiceSettings(BrokerSettings, RetrySettings, StorageSettings, StopSettings):
    """Every knob of seal-sender."""

    rabbitmq_queue: str = Field(default="seal", description="the one queue consumed")
    rabbitmq_qos: int = Field(default=50, ge=1, le=65535, description="prefetch: messages in hand at once")
    metrics_addr: str = Field(
        default="127.0.0.1:9104",
        description="host:port for /metrics, /liveness and /readiness; worker i listens on port + i; empty = off",
    )
    stops_refresh: Duration = Field(
        default=timedelta(seconds=60),
        description="seconds after which suppressions, pauses and forced errors are read again even when nothing was notified",
    )
    outbound_seal_addr: str = Field(
        default="", description="the seal service, https://host[:port][/path]; http:// only on loopback. Required"
    )
    outbound_seal_token: SecretStr = Field(default=SecretStr(""), description="bearer token for the seal service")
    outbound_seal_certificate: str = Field(default="", description="PEM file of our certificate for mTLS")
    outbound_seal_key: str = Field(default="", description="PEM file of its private key, when that is a file of its own")
    outbound_seal_ca_file: str = Field(default="", description="PEM file of authorities to trust instead of the system's")
    outbound_seal_callback: str = Field(default="", description="URL that the service may call about a mail; empty = none")
    outbound_seal_connections: int = Field(default=20, ge=1, description="connections to the seal service at once")
    outbound_seal_connect_timeout: Duration = Field(default=timedelta(seconds=30), description="seconds to wait for a connection")
    outbound_seal_timeout: Duration = Field(
        default=timedelta(seconds=120), description="seconds for one mail, connecting not counted"
    )

    @field_validator("outbound_seal_addr")
    @classmethod
    def _service(cls, value: str) -> str:
        if not value:
            return value
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or url.username:
            raise ValueError("expected https://host[:port][/path]")
        if url.scheme == "http" and not is_loopback(url.hostname):
            raise ValueError("expected https: mail that must not travel in clear text goes there")
        return value.rstrip("/")

    @field_validator("outbound_seal_callback")
    @classmethod
    def _callback(cls, value: str) -> str:
        if value and (not value.isascii() or not value.isprintable() or urlsplit(value).scheme not in ("http", "https")):
            raise ValueError("expected a URL, https://…")
        return value
