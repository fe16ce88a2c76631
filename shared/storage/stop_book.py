"""Suppressions, pauses and forced errors as a sender last saw them in Postgres (``/v1/suppressions``, ``/v1/pauses``, ``/v1/errors``).

With Postgres down it goes on with what it has. A sender with ``db-uri`` that has never seen one of them holds all mail: what was sent
to somebody who must get none cannot be taken back.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import Gauge
from pydantic import Field, field_validator

from shared.delivery.conditions import Index
from shared.delivery.stops import NO_STOPS, ForcedError, Pause, Stops, parse_error, parse_pause
from shared.delivery.suppressions import Held, hold, render_held
from shared.storage.database import Connection, DatabaseSettings, check_uri
from shared.storage.documents import fetch_documents
from shared.storage.register import Register
from shared.storage.snapshot import Followed, Snapshot

SUPPRESSIONS = Gauge("stops_suppressions", "Suppressions in Postgres, as last seen")
SUPPRESSIONS_FRESH = Gauge(
    "stops_suppressions_fresh", "1 while the suppressions follow Postgres, 0 while the last snapshot is used"
)
PAUSES = Gauge("stops_pauses", "Pauses in Postgres, as last seen")
PAUSES_FRESH = Gauge("stops_pauses_fresh", "1 while the pauses follow Postgres, 0 while the last snapshot is used")
ERRORS = Gauge("stops_forced_errors", "Forced errors in Postgres, as last seen")
ERRORS_FRESH = Gauge("stops_forced_errors_fresh", "1 while the forced errors follow Postgres, 0 while the last snapshot is used")


class StopSettings(DatabaseSettings):
    """Where the lists come from. A mixin for the settings of the senders."""

    db_uri: str = Field(
        default="",
        description="postgresql://user:password@host:port/database with suppressions, pauses and forced errors; empty = none",
    )
    stops_snapshot: Path = Field(
        default=Path("/var/lib/mailwarren/stops"),
        description="folder that keeps the last suppressions, pauses and forced errors seen in Postgres, so that a restart works while "
        "it is down",
    )

    @field_validator("db_uri")
    @classmethod
    def _postgresql(cls, value: str) -> str:
        if value:
            check_uri(value)
        return value


class StopBook:
    """What is in force now."""

    def __init__(self, settings: StopSettings) -> None:
        folder = settings.stops_snapshot
        self._suppressions = SuppressionTable(folder / "suppressions.jsonl")
        self._pauses = PauseTable(folder / "pauses.json")
        self._errors = ErrorTable(folder / "errors.json")
        self._is_empty = not settings.db_uri
        self._seen: tuple[Sequence[Pause], Sequence[ForcedError]] = (), ()
        self._stops = NO_STOPS

    @property
    def followed(self) -> list[Followed]:
        """The tables to be followed; none without ``db-uri``."""
        return [] if self._is_empty else [self._suppressions, self._pauses, self._errors]

    def current(self) -> Stops:
        """Those in force. Raises Unavailable when one of the tables was never seen."""
        if self._is_empty:
            return NO_STOPS
        suppressions, pauses, errors = self._suppressions.items, self._pauses.items, self._errors.items
        seen = self._seen
        if self._stops.suppressions is not suppressions or seen[0] is not pauses or seen[1] is not errors:
            self._seen = pauses, errors
            self._stops = Stops(suppressions, Index(pauses), Index(errors))
        return self._stops


class SuppressionTable(Register[Held]):
    """Recipients that get no mail."""

    what, table, count, fresh = "suppressions", "suppressions", SUPPRESSIONS, SUPPRESSIONS_FRESH
    columns = ("reason", "expires")

    def parse(self, name: str, *values: str | None) -> Held:
        """Raises ValueError, for a name that no look-up would find too: a row may be written by hand."""
        if name != name.lower():
            raise ValueError("name: expected lower case")
        reason, expires = values
        return hold(reason, expires)

    def render(self, value: Held) -> Mapping[str, Any]:
        """An entry as it is kept on disk."""
        return render_held(value)


class PauseTable(Snapshot[Pause]):
    """Mail that waits, all entries or none."""

    what, table, count, fresh = "pauses", "pauses", PAUSES, PAUSES_FRESH

    async def fetch(self, connection: Connection) -> Sequence[Mapping[str, Any]]:
        """The rows."""
        return await fetch_documents(connection, self.table)

    def parse(self, documents: Sequence[Mapping[str, Any]]) -> list[Pause]:
        """The pauses. Raises ValueError."""
        return [parse_pause(document) for document in documents]

    def render(self, item: Pause) -> Mapping[str, Any]:
        """A pause as it is kept on disk."""
        since = {} if item.since is None else {"updated_at": int(item.since.timestamp())}
        return {"name": item.name, **item.document, **since}


class ErrorTable(Snapshot[ForcedError]):
    """Mail that gets a made-up reply, all entries or none."""

    what, table, count, fresh = "forced errors", "errors", ERRORS, ERRORS_FRESH

    async def fetch(self, connection: Connection) -> Sequence[Mapping[str, Any]]:
        """The rows."""
        return await fetch_documents(connection, self.table)

    def parse(self, documents: Sequence[Mapping[str, Any]]) -> list[ForcedError]:
        """The forced errors. Raises ValueError."""
        return [parse_error(document) for document in documents]

    def render(self, item: ForcedError) -> Mapping[str, Any]:
        """A forced error as it is kept on disk."""
        return {"name": item.name, **item.document}
