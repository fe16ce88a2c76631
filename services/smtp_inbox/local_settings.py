"""The settings of local recipients and of refused mail."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field, field_validator

from shared.settings import Duration, Strings
from shared.storage.database import DatabaseSettings, check_uri


class LocalSettings(DatabaseSettings):
    """A part of the settings of smtp-inbox."""

    local_domains: Strings = Field(
        default=(),
        description="domains that anybody may send to: example.com, *.example.com, or @/a/file with one per line, "
        "whose change is noticed within 10 s, or at once on SIGHUP",
    )
    local_addresses: Strings = Field(
        default=(),
        description="addresses that anybody may send to: info@example.com, bounce-*@example.com, /a regular expression/, "
        "or @/a/file as for local-domains",
    )
    local_routed: bool = Field(
        default=False,
        description="rules of the router take the mail for local recipients (said by you where we cannot see it): "
        "start without rabbitmq-local",
    )
    local_max_message: int = Field(
        default=16777216,
        ge=65536,
        description="octets that RabbitMQ takes in one message; mail for rabbitmq-local and -reports, which carries its content, "
        "is refused when it would be larger (552)",
    )
    locals_snapshot: Path = Field(
        default=Path("/var/lib/mailwarren/locals.json"),
        description="file that keeps the last local recipients seen in Postgres, so that a restart works while it is down",
    )
    locals_refresh: Duration = Field(
        default=timedelta(seconds=60),
        description="seconds after which the local recipients are read again even when nothing was notified",
    )
    db_uri: str = Field(
        default="",
        description="postgresql://user:password@host:port/database with the local recipients of /v1/locals; "
        "empty = only those of the settings",
    )
    refused_max_content: int = Field(
        default=65536,
        ge=0,
        le=4194304,
        description="octets of its content, from the beginning, that go with a refused mail to rabbitmq-refused; 0 = none",
    )

    @field_validator("db_uri")
    @classmethod
    def _postgresql(cls, value: str) -> str:
        if value:
            check_uri(value)
        return value
