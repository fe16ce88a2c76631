"""What archiver counts."""

from prometheus_client import Counter, Gauge

MOVED = Counter("archive_rows_moved", "Verdicts moved to the archive")
EXPIRED = Counter("archive_rows_expired", "Archived verdicts deleted, whole months included")
SWEPT = Counter("archive_payloads_swept", "Payloads without a mail deleted from the message store")
RUNS = Counter("archive_runs", "Runs of the archiver", ["outcome"])
OVERDUE = Gauge("mail_overdue", "Recipients whose next attempt should have been made by now")
OVERDUE_SECONDS = Gauge("mail_overdue_seconds", "For how long the longest waiting of them has been overdue")
