"""What a run has done, or would do, and the times that it works by."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self

from services.archiver.settings import ServiceSettings
from shared.storage.archive import Partition

COUNTS_KEPT = timedelta(days=2 * 366)
"""The longest time that can be asked for at once, and the same time a year before; less when the archive is kept for less."""


@dataclass(slots=True)
class Report:
    """What a run did, or would do."""

    dry_run: bool
    moved: int = 0
    """Verdicts moved to the archive."""
    created: list[str] = field(default_factory=list)
    """Months made."""
    dropped: list[str] = field(default_factory=list)
    """Months dropped."""
    busy: list[str] = field(default_factory=list)
    """Months that should have been dropped; somebody was reading the archive."""
    expired: int = 0
    """Archived verdicts gone, those in dropped months included."""
    forgotten: int = 0
    """Answers to requests with an Idempotency-Key gone."""
    ended: dict[str, int] = field(default_factory=dict)
    """Suppressions, pauses and forced errors gone, by table."""
    counts: int = 0
    """Rows of the counters gone."""
    swept: int = 0
    """Payloads deleted."""
    not_swept: str = ""
    """Why no payload was looked at, or not all of them; empty when they were."""
    store_down: bool = False
    """The message store was out of reach."""
    doubt: str = ""
    """Why nothing was deleted: the clock may be wrong."""

    @property
    def is_partial(self) -> bool:
        """Was something left undone that should have been done now?"""
        return bool(self.busy or self.doubt or self.store_down)

    def lines(self) -> list[str]:
        """The report for people."""
        would = "would be " if self.dry_run else ""
        told = [
            f"verdicts {would}moved to the archive: {self.moved}",
            f"archived verdicts past their retention {would}deleted: {self.expired}",
            f"months {would}made: {', '.join(self.created) or 'none'}",
            f"months {would}dropped: {', '.join(self.dropped) or 'none'}",
            f"answers kept for an Idempotency-Key {would}deleted: {self.forgotten}",
            f"counts past their time {would}deleted: {self.counts}",
            *(f"{table} that have ended {would}deleted: {count}" for table, count in self.ended.items()),
        ]
        if self.busy:
            told.append(f"months left for the next run, somebody reads the archive: {', '.join(self.busy)}")
        if self.doubt:
            told.append(f"nothing {would}deleted: {self.doubt}")
        if self.not_swept:
            return [*told, f"payloads not swept: {self.not_swept}"]
        return [*told, f"payloads without a mail {would}deleted: {self.swept}"]


@dataclass(frozen=True, slots=True)
class Moments:
    """The times that a run works by, unix seconds."""

    now: int
    before: int
    """Verdicts last changed before this one move."""
    retained: int
    """What was archived before this one goes."""
    counted: int
    """What was counted before this one goes."""

    @classmethod
    def at(cls, now: int, settings: ServiceSettings) -> Self:
        """Those of a run that begins ``now``."""
        before = now - int(settings.wait_before_archive.total_seconds())
        retention = settings.archive_retention_period
        return cls(now, before, now - int(retention.total_seconds()), now - int(min(retention, COUNTS_KEPT).total_seconds()))

    def is_past(self, month: Partition) -> bool:
        """Was everything in this month archived before ``retained``?"""
        return month.end <= self.retained
