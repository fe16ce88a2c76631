"""P3: Postgres away for 20 seconds: mail goes on leaving, nothing is counted against it, and the records are complete afterwards."""

import time

from tests.pipeline.conftest import MANY, Run
from tests.support.waiting import wait_until

AWAY = 20.0


def test_stop_postgres(own_run: Run) -> None:
    own_run.publish(100)
    own_run.wait_final()
    own_run.stack.stop("postgres")
    stopped = time.monotonic()
    own_run.publish()
    wait_until(lambda: own_run.arrived() >= len(own_run.tokens), within=AWAY)
    assert not own_run.ledger.lost(own_run.tokens)
    wait_until(lambda: time.monotonic() - stopped >= AWAY, within=AWAY + 1)
    own_run.stack.start("postgres")
    own_run.wait_final()
    own_run.assert_all_arrived(most_duplicates=0)
    assert own_run.rows() == 100 + MANY
