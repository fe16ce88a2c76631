"""A process ends when a binding that it needs is removed while it works: its publishes would be confirmed and lead nowhere."""

import asyncio

import aiormq

from shared.amqp.settings import BrokerSettings
from shared.amqp.start import open_pipeline
from shared.process import Runtime
from shared.trouble import BrokerLost
from tests.stack import Stack
from tests.support.queues import Queues


async def test_a_binding_that_is_removed_is_noticed(queues: Queues, settings: BrokerSettings, servers: Stack) -> None:
    watched = settings.model_copy(update={"rabbitmq_api": servers.rabbitmq.api})
    runtime = Runtime("test")
    async with open_pipeline(watched, runtime, publishes=("success", "record"), consumes="", look_again=0.2):
        await asyncio.sleep(0)
        assert not runtime.failed.done()
        connection = await aiormq.connect(settings.rabbitmq_address)
        channel = await connection.channel()
        await channel.queue_unbind("records", "mailwarren", "record")
        await connection.close()
        error = await asyncio.wait_for(runtime.failed, 15)
    assert isinstance(error, BrokerLost)
    assert "record" in str(error)
    assert str(error).startswith("the topology was changed: ")
