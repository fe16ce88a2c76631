"""Fixtures that more than one file of tests shares."""

from collections.abc import Iterator

import pytest

from tests.integration.stopping import Desk, open_desk
from tests.stack import Stack


@pytest.fixture(scope="module")
def working(servers: Stack, database_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """smtp-sender and json-inbox, for the whole file."""
    with open_desk(servers, database_template, tmp_path_factory.mktemp("desk")) as desk:
        yield desk


@pytest.fixture
def desk(working: Desk) -> Desk:
    """Nothing is suppressed, paused or forced yet."""
    working.clear()
    return working
