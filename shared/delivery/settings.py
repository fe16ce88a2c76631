"""The settings of retrying, for every sender: MailerQ's names."""

from datetime import timedelta

from pydantic import Field, field_validator

from shared.mail.dsn import Returned, parse_notify
from shared.settings import Duration, Durations, Settings

_DEFAULT_INTERVALS = tuple(timedelta(seconds=s) for s in (600, 600, 1800, 1800, 3600, 3600, 7200))


class RetrySettings(Settings):
    """When a mail is tried again, and for how long."""

    retry_interval: Durations = Field(
        default=_DEFAULT_INTERVALS,
        min_length=1,
        description="seconds between attempt n and n+1, with commas; the last repeats; ±10 % jitter",
    )
    max_attempts: int = Field(default=0, ge=0, description="attempts in total, the first included; 0 = unlimited")
    max_delivertime: Duration = Field(
        default=timedelta(days=1), description="seconds after which a mail is given up, counted from when it was first seen"
    )
    response_patterns: str = Field(
        default="", description="TOML file of response patterns, tried before the shipped ones; empty = only those"
    )
    journal_dir: str = Field(
        default="/var/lib/mailwarren/journal",
        description="folder of the journal, on a local disk, the same for all senders of a host: a crash does not send mail twice",
    )
    dsn_notify: str = Field(
        default="",
        description="what the sender of mail without dsn is told of: NEVER, or any of SUCCESS,FAILURE,DELAY; "
        "empty = FAILURE for mail that came in by SMTP, else NEVER",
    )
    dsn_ret: Returned = Field(
        default=Returned.HDRS, description="what such a notification returns: FULL (the mail, up to 1 MiB) or HDRS (its header)"
    )
    dsn_delay: Duration = Field(
        default=timedelta(hours=4), description="seconds after the first attempt when DELAY is told, once, at the next retry"
    )

    @field_validator("dsn_notify")
    @classmethod
    def _notify(cls, value: str) -> str:
        if value:
            parse_notify(value, "dsn-notify")
        return value
