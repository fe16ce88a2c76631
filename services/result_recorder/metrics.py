"""What result-recorder counts."""

from prometheus_client import Counter, Gauge, Histogram

BATCH_SIZE = Histogram("recorder_batch_size", "Records in one transaction", buckets=(1, 5, 20, 50, 100, 200, 500, 1000, 2000))
BATCH_SECONDS = Histogram(
    "recorder_batch_seconds", "Time a batch took, until it could be acked",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)  # fmt: skip
LAG = Gauge(
    "recorder_lag_seconds", "How far Postgres is behind what has happened; 0 while nothing waits, growing while Postgres is away"
)
ROWS = Counter("recorder_rows", "Rows written", ["table"])
UNRECORDABLE = Counter("recorder_unrecordable", "Records that could not be recorded and were parked")
COMPLETED = Counter("recorder_completed", "Submissions all of whose recipients are final")
PAYLOADS = Counter("recorder_payload_deletes", "Payloads deleted from the message store", ["outcome"])
UNCLEANED = Counter("recorder_uncleaned", "Completed submissions whose payloads are left to a later look, as the store is slow")
CAUGHT_UP = Gauge("recorder_caught_up", "1 while no more records wait than one batch holds")
