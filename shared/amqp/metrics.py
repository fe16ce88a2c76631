"""What every consumer counts. Labels are bounded."""

from prometheus_client import Counter, Gauge, Histogram

DELIVERIES = Counter("amqp_deliveries", "Messages delivered by RabbitMQ", ["redelivered"])
PARKED = Counter("amqp_parked", "Messages parked in the queue dead")
HELD = Counter("amqp_held", "Messages held because something of ours was down")
IN_HAND = Gauge("amqp_in_hand", "Messages being handled")
HANDLE_SECONDS = Histogram("amqp_handle_seconds", "Time a handler took", buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600))
