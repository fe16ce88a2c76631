"""The settings of json-inbox."""

import socket
from datetime import timedelta
from pathlib import Path

from pydantic import Field, field_validator

from shared.amqp.settings import BrokerSettings
from shared.loopback import is_loopback
from shared.mail.address import parse_mailbox
from shared.process import split_address
from shared.settings import Duration
from shared.storage.accepted_before import MemorySettings
from shared.storage.database import DatabaseSettings
from shared.storage.open_store import StorageSettings
from shared.trouble import BadSetting


class ServiceSettings(BrokerSettings, StorageSettings, DatabaseSettings, MemorySettings):
    """Everything that can be set."""

    rabbitmq_queue: str = Field(default="actions", description="the queue of actions that is consumed")
    rabbitmq_qos: int = Field(default=20, ge=1, le=65535, description="prefetch: actions in hand at once")
    metrics_addr: str = Field(
        default="127.0.0.1:9101",
        description="host:port for /metrics, /liveness and /readiness; worker i listens on port + i; empty = off",
    )
    http_listen: str = Field(
        default="127.0.0.1:8100",
        description="host:port of the HTTP interface; beyond loopback every request needs a token, and TLS or http-cleartext",
    )
    http_tls_public_key: str = Field(
        default="", description="PEM file with the certificate chain for HTTPS; read again on SIGHUP"
    )
    http_tls_private_key: str = Field(default="", description="PEM file with the certificate's private key")
    http_cleartext: bool = Field(
        default=False,
        description="listen beyond loopback without TLS: only behind a proxy that speaks it, or the tokens pass in the clear",
    )
    http_token_required: bool = Field(default=False, description="requests from this machine need a token, too")
    tokens_snapshot: Path = Field(
        default=Path("/var/lib/mailwarren/tokens.json"),
        description="file that keeps the digests of the last tokens seen, so that a restart works while Postgres is down",
    )
    tokens_refresh: Duration = Field(
        default=timedelta(seconds=60), description="seconds after which the tokens are read again even when nothing was notified"
    )
    http_max_size: int = Field(
        default=29_360_128,
        ge=1024,
        description="bytes of a request's body, or of one line of a stream (NDJSON with ?partial=true), after decompression: "
        "a mail of 20 MiB in base64 and what travels with it",
    )
    http_max_messages: int = Field(
        default=1000,
        ge=1,
        description="messages (recipients) in one request; a stream may have more and is taken in batches of so many",
    )
    http_max_memory: int = Field(
        default=134_217_728,
        ge=1024,
        description="bytes of bodies in hand at once, over all requests; a request that finds no room waits, then is answered 503",
    )
    http_max_requests: int = Field(
        default=200, ge=1, description="requests with mail in hand at once; more are answered 503, so that memory stays bounded"
    )
    http_max_connections: int = Field(default=1000, ge=1, description="connections at once, of this process")
    http_max_connections_per_address: int = Field(
        default=50, ge=1, description="connections at once from one address (IPv6: from one /64), this machine's own aside"
    )
    http_body_timeout: Duration = Field(
        default=timedelta(seconds=60), description="seconds a client may take to send a body, or the next piece of a stream"
    )
    data_processing_timeout: Duration = Field(
        default=timedelta(seconds=60), description="seconds to store and publish; later the answer is 503"
    )
    http_public_hostname: str = Field(
        default_factory=socket.gethostname, description="our name in Received headers and made Message-IDs"
    )
    actions_sender: str = Field(
        default="", description="From and reverse-path of mail that the action send asks for; empty = such actions are refused"
    )
    router_default: str = Field(
        default="smtp",
        description="the router's setting of the same name, told by POST /v1/config/test",
        pattern="^(smtp|seal|fail)$",
    )

    @field_validator("http_listen")
    @classmethod
    def _address(cls, value: str) -> str:
        try:
            split_address(value, "http-listen")
        except BadSetting:
            raise ValueError("expected host:port") from None
        return value

    @field_validator("actions_sender")
    @classmethod
    def _mailbox(cls, value: str) -> str:
        if value:
            parse_mailbox(value)
        return value


def check_listener(settings: ServiceSettings) -> None:
    """May it listen so? Raises BadSetting."""
    host, _ = split_address(settings.http_listen, "http-listen")
    has_key = bool(settings.http_tls_private_key)
    if bool(settings.http_tls_public_key) != has_key:
        raise BadSetting("http-tls-public-key and http-tls-private-key: expected both or neither")
    if not (is_loopback(host) or has_key or settings.http_cleartext):
        raise BadSetting(
            f"http-listen: {settings.http_listen!r}: beyond loopback tokens would pass in the clear: expected "
            "http-tls-public-key and http-tls-private-key, or http-cleartext when a proxy in front speaks TLS"
        )
