"""What archiver counts."""

from prometheus_client import Counter, Gauge

MOVED = Counter("archive_rows_moved", "Verdicts moved to the archive")
EXPIRED = Counter("archive_rows_expired", "Archived verdicts deleted, whole months included")
FORGOTTEN = Counter("archive_requests_forgotten", "Answers to requests with an Idempotency-Key deleted after their time")
COUNTS = Counter("archive_counts_expired", "Rows of the counters deleted after their time")
ENDED = Counter("archive_entries_ended", "Suppressions, pauses and forced errors deleted after their time", ["table"])
SWEPT = Counter("archive_payloads_swept", "Payloads without a mail deleted from the message store")
RUNS = Counter("archive_runs", "Runs of the archiver", ["outcome"])
FAILED = Counter("archive_steps_failed", "Steps left to the next run while the rest of the run was done", ["step"])
LAST_RUN = Gauge("archive_last_run_timestamp_seconds", "When the last run was done, unix seconds; 0: none since the start")
LATE_SECONDS = Gauge("archive_late_seconds", "For how long the oldest verdict has been due to be archived; 0 when none is")
DOUBTED = Gauge("archive_clock_doubted", "1 while nothing is deleted because the clock may be wrong")
OVERDUE = Gauge("mail_overdue", "Recipients whose next attempt should have been made by now; 10000: or more")
OVERDUE_SECONDS = Gauge("mail_overdue_seconds", "For how long the longest waiting of them has been overdue")

# Shown from the start: an alert on the increase of one that appears with its first event misses that.
for _outcome in ("done", "unavailable"):
    RUNS.labels(_outcome)
for _step in ("drop", "sweep"):
    FAILED.labels(_step)
