"""What the HTTP interface counts: mxengine's names exactly, and nothing else beside them."""

from prometheus_client import Counter, Histogram

REQUESTS = Counter("http_requests_total", "HTTP requests answered", ["operation", "code"])
DURATION = Histogram(
    "http_request_duration_seconds",
    "Seconds from the request line to the end of the answer",
    ["operation", "code"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
