"""json-inbox, a process for each file of tests."""

from collections.abc import Iterator

import pytest

from tests.integration.json_inbox_process import Inbox, run_inbox
from tests.stack import Stack


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, servers: Stack, database_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Inbox]:
    """One process for the whole file; ``SETTINGS`` there are those that differ."""
    more = getattr(request.module, "SETTINGS", None)
    with run_inbox(servers, database_template, tmp_path_factory.mktemp("payloads"), more) as inbox:
        yield inbox


@pytest.fixture
def inbox(running: Inbox) -> Inbox:
    """The process, with empty queues."""
    for queue in ("inbox", "records", "dead"):
        running.queues.take(queue)
    return running
