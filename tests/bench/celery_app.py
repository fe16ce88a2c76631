"""What (h) runs: the task of a team that sends its mail with Celery and smtplib. Imported by the workers alone.

The environment says where the broker is (``CELERY_BROKER_URL``, which Celery reads itself) and the next hop (``BENCH_SINK``,
host:port).
"""

import os
import smtplib
import threading
from functools import cached_property
from typing import Any

from celery import Celery

from tests.bench.celery_load import QUEUE, RESULTS, TASK

_HOST, _, _PORT = os.environ["BENCH_SINK"].rpartition(":")

app = Celery("bench")
app.conf.update(
    # As durable as our own: quorum queues, persistent messages, confirmed publishes, a task acked when it is done.
    task_default_queue=QUEUE,
    task_default_queue_type="quorum",
    task_default_exchange_type="topic",  # quorum queues want it, for delayed tasks
    task_acks_late=True,
    broker_transport_options={"confirm_publish": True},
    # The queues for delayed tasks come with quorum queues and stay empty here: 28 idle ones of the cheaper kind.
    broker_native_delayed_delivery_queue_type="classic",
    worker_prefetch_multiplier=10,  # 1 costs prefork a fifth of its rate; 4, 10, 50 differ by no more than the error
    # Nothing that a busy worker does not need.
    task_ignore_result=True,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    broker_heartbeat=0,
)


class _Kept(threading.local):
    """What a thread keeps from mail to mail."""

    @cached_property
    def session(self) -> smtplib.SMTP:
        """With the next hop; delete it when it is lost."""
        return smtplib.SMTP(_HOST, int(_PORT), local_hostname="bench.example", timeout=60)

    @cached_property
    def producer(self) -> Any:
        """Kombu's, on a connection of its own."""
        return app.amqp.Producer(app.connection_for_write(), auto_declare=False)


_kept = _Kept()


@app.task(name=TASK)  # type: ignore[untyped-decorator] # Celery has no types
def send(envelope: str, recipient: str, mime: str) -> None:
    """Send one mail; then its result is in the queue, confirmed."""
    content = mime.encode()
    try:
        _kept.session.sendmail(envelope, [recipient], content)
    except smtplib.SMTPServerDisconnected:
        del _kept.session
        _kept.session.sendmail(envelope, [recipient], content)
    # smtplib tells of what was refused alone: no exception is the whole of what there is to say.
    result = {"envelope": envelope, "recipient": recipient, "result": "accepted"}
    _kept.producer.publish(result, exchange="", routing_key=RESULTS, delivery_mode="persistent", serializer="json")
