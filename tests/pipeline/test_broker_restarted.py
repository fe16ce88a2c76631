"""P1: RabbitMQ restarted in the middle of a thousand mails: none lost, and every consumer comes back by itself."""

from tests.pipeline.conftest import MANY, Run, slow_recipient
from tests.support.waiting import wait_until

PREFETCH = 200


def test_restart_rabbitmq(own_run: Run) -> None:
    own_run.publish(recipient=slow_recipient)
    wait_until(lambda: own_run.arrived() > MANY // 4, within=30)
    own_run.stack.restart("rabbitmq")
    own_run.stack.wait_ready("smtp-sender")
    own_run.stack.wait_ready("result-recorder")
    own_run.wait_final()
    own_run.publish(100)
    own_run.wait_final()
    own_run.assert_all_arrived(most_duplicates=PREFETCH)
