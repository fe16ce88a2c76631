"""P1: result-recorder killed in the middle of a thousand results: every row is there in the end, once."""

from tests.pipeline.conftest import MANY, Run, slow_recipient
from tests.support.waiting import wait_until


def test_kill_result_recorder(run: Run) -> None:
    run.publish(recipient=slow_recipient)
    wait_until(lambda: run.final() > 0, within=30)
    run.stack.kill("result-recorder")
    run.stack.wait_ready("result-recorder")
    run.wait_final()
    run.assert_all_arrived(most_duplicates=0)
    assert run.rows() == MANY
