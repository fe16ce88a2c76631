"""A virtual host with our topology, and uvloop for every coroutine test, as in the processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio
import uvloop

from shared.amqp.connection import connect_once
from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.declare import declare
from shared.amqp.topology.default import read_default_topology
from shared.amqp.topology.objects import Queue, Topology, TopologyObject
from tests.support.queues import Queues

HOLD_WAIT = 300
"""Milliseconds that a held message waits here, instead of 30 s."""
LEFT_OUT = ("wait.5m", "wait.10m", "wait.30m", "wait.1h", "wait.2h", "local", "reports", "refused")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every coroutine test below this folder gets uvloop."""
    return {"uvloop": uvloop.new_event_loop}


def _shorten(item: TopologyObject) -> TopologyObject:
    if isinstance(item, Queue) and item.name == "wait.30s":
        return replace(item, arguments={**item.arguments, "x-message-ttl": HOLD_WAIT})
    return item


@pytest_asyncio.fixture
async def queues(vhost: str) -> AsyncIterator[Queues]:
    """The queues of a virtual host with (most of) our topology."""
    objects = [item for item in read_default_topology() if not any(f"'{name}'" in str(item) for name in LEFT_OUT)]
    connection = await connect_once(vhost, name="declares")
    declared = await declare(connection, Topology(tuple(_shorten(item) for item in objects)))
    await connection.close()
    assert declared.refused is None, declared
    yield Queues(vhost)


@pytest.fixture
def settings(vhost: str) -> BrokerSettings:
    """Consuming ``inbox``; a message that has to be held is held for a moment only."""
    return BrokerSettings(
        rabbitmq_address=vhost, rabbitmq_queue="inbox", hold_time=timedelta(seconds=0.05), drain_timeout=timedelta(seconds=5)
    )
