"""What webhook counts. An endpoint's name is the operator's: there are few."""

from prometheus_client import Counter, Gauge, Histogram

POSTS = Counter("webhook_posts", "Requests, by what they ended with: taken, refused, failed or gone", ["endpoint", "result"])
POST_SECONDS = Histogram("webhook_post_seconds", "Time of a request", buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60))
TAKEN = Counter("webhook_events_taken", "Events that an endpoint has taken", ["endpoint"])
DROPPED = Counter(
    "webhook_events_dropped", "Events given up: disabled, removed, expired, or full: the wait queue is", ["endpoint", "reason"]
)
WAITING = Counter(
    "webhook_batches_waiting",
    "Batches sent to a wait queue: failed, resting, busy, early, or stale: the endpoints are",
    ["reason"],
)
DISABLED = Counter("webhook_disabled", "Endpoints that this process has disabled", ["endpoint"])
ENDPOINTS = Gauge("webhook_endpoints", "Endpoints known, disabled ones too")
FRESH = Gauge("webhook_endpoints_fresh", "1 while the endpoints follow Postgres, 0 while the last snapshot is used")
