"""The command sets up logs for the whole process: put back after every test."""

import logging
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    before, logger = structlog.get_config(), logging.getLogger("aiormq")
    level = logger.level
    yield
    structlog.configure(**before)
    logger.setLevel(level)
