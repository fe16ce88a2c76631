"""What smtp-inbox counts: three metrics by mxengine's exact names, and ours."""

from collections.abc import Iterable

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

SESSIONS = Gauge("smtp_inbox_sessions", "Connections that are open")
REFUSED = Counter("smtp_inbox_refused", "Commands and mails that were refused", ["code"])
BROKEN = Counter("smtp_inbox_unread_replies", "Mails accepted whose client left before it could read 250: it may send them again")

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, float("inf"))


class Incoming(Collector):
    """``smtp_incoming_total``, ``smtp_incoming_stored``, ``smtp_incoming_duration_seconds``.

    The client library renames counters (``smtp_incoming_stored_total``) and adds ``_created``: so they are put together here.
    """

    def __init__(self) -> None:
        self.total = 0
        """Mails whose content was read to its end."""
        self.stored = 0
        """Mails that we took responsibility for."""
        self._seconds = Histogram("smtp_incoming_duration_seconds", "", buckets=_BUCKETS, registry=None)

    def observe(self, seconds: float) -> None:
        """Count the time from the end of a mail's content to its reply."""
        self._seconds.observe(seconds)

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        total = Metric("smtp_incoming", "Mails received by SMTP, whatever became of them", "counter")
        total.add_sample("smtp_incoming_total", {}, self.total)
        yield total
        stored = Metric("smtp_incoming_stored", "Mails received by SMTP that we took responsibility for", "unknown")
        stored.add_sample("smtp_incoming_stored", {}, self.stored)
        yield stored
        duration = Metric("smtp_incoming_duration_seconds", "From the end of a mail's content to its reply", "histogram")
        for family in self._seconds.collect():
            duration.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
        yield duration


INCOMING = Incoming()
REGISTRY.register(INCOMING)
