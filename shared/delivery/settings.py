"""The settings of retrying, for every sender: MailerQ's names."""

from datetime import timedelta

from pydantic import Field

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
