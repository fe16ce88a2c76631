"""The settings of json-inbox."""

import socket
from datetime import timedelta

from pydantic import Field, field_validator

from shared.amqp.settings import BrokerSettings
from shared.loopback import is_loopback
from shared.mail.address import parse_mailbox
from shared.process import split_address
from shared.settings import Duration
from shared.storage.database import DatabaseSettings
from shared.storage.open_store import StorageSettings
from shared.trouble import BadSetting


class ServiceSettings(BrokerSettings, StorageSettings, DatabaseSettings):
    """Everything that can be set."""

    rabbitmq_queue: str = Field(default="actions", description="the queue of actions that is consumed")
    rabbitmq_qos: int = Field(default=20, ge=1, le=65535, description="prefetch: actions in hand at once")
    metrics_addr: str = Field(
        default="127.0.0.1:9101",
        description="host:port for /metrics, /liveness and /readiness; worker i listens on port + i; empty = off",
    )
    http_listen: str = Field(
        default="127.0.0.1:8100",
        description="host:port of the HTTP interface; loopback only, because tokens are not built yet",
    )
    http_max_size: int = Field(
        default=29_360_128,
        ge=1024,
        description="bytes of a request's body, after decompression: a mail of 20 MiB in base64 and what travels with it",
    )
    http_max_messages: int = Field(default=1000, ge=1, description="messages (recipients) in one request")
    http_max_requests: int = Field(
        default=200, ge=1, description="requests with mail in hand at once; more are answered 503, so that memory stays bounded"
    )
    http_body_timeout: Duration = Field(default=timedelta(seconds=60), description="seconds a client may take to send a body")
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
    def _loopback(cls, value: str) -> str:
        try:
            host, _ = split_address(value, "http-listen")
        except BadSetting:
            raise ValueError("expected host:port") from None
        if not is_loopback(host):
            raise ValueError(
                "expected a loopback address (127.0.0.1, ::1): tokens are not built yet, and without them "
                "anybody who reaches the port could send mail"
            )
        return value

    @field_validator("actions_sender")
    @classmethod
    def _mailbox(cls, value: str) -> str:
        if value:
            parse_mailbox(value)
        return value
