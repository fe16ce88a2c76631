"""P1, P2: smtp-sender killed in the middle of a thousand mails: none lost, no more doubled than were in hand."""

import pytest

from tests.pipeline.conftest import MANY, Run, slow_recipient
from tests.support.waiting import wait_until

PREFETCH = 200


def test_kill_smtp_sender(run: Run) -> None:
    run.publish(recipient=slow_recipient)
    wait_until(lambda: run.arrived() > MANY // 4, within=30)
    run.stack.kill("smtp-sender")
    before = run.final()
    assert before < MANY, "the mails were through before the kill: the test shows nothing"
    run.stack.wait_ready("smtp-sender")
    run.wait_final()
    run.assert_all_arrived(most_duplicates=PREFETCH)


@pytest.mark.long
def test_stop_and_start_smtp_sender(run: Run) -> None:
    run.publish(recipient=slow_recipient)
    wait_until(lambda: run.arrived() > MANY // 4, within=30)
    run.stack.restart("smtp-sender")
    run.wait_final()
    run.assert_all_arrived(most_duplicates=0)
