"""What consumers and publishers count. Labels are bounded."""

from prometheus_client import Counter, Gauge, Histogram

DELIVERIES = Counter("amqp_deliveries", "Messages delivered by RabbitMQ", ["redelivered"])
PARKED = Counter("amqp_parked", "Messages parked in the queue dead")
HELD = Counter("amqp_held", "Messages held because something of ours was down")
IN_HAND = Gauge("amqp_in_hand", "Messages being handled")
PUBLISHES = Counter("amqp_publishes", "Messages handed to RabbitMQ")
IN_FLIGHT = Gauge("amqp_publishes_in_flight", "Messages handed to RabbitMQ that it has not confirmed yet")
CONFIRM_SECONDS = Histogram(
    "amqp_confirm_seconds",
    "Time until RabbitMQ had confirmed what was handed to it in one write, one message or many",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)
HANDLE_SECONDS = Histogram("amqp_handle_seconds", "Time a handler took", buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600))
