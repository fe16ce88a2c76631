"""What json-inbox needs of RabbitMQ."""

from services.json_inbox.settings import ServiceSettings
from shared.amqp.connection import connect
from shared.amqp.topology.verify import verify

HOME = "actions"
"""The routing key that brings a held action back from a wait queue."""


async def check_topology(settings: ServiceSettings) -> None:
    """Is there what we consume and publish to? Raises BadSetting or BrokerLost."""
    connection = await connect(settings.rabbitmq_address, name="json-inbox verifies", verify=settings.rabbitmq_verify)
    try:
        keys = (settings.rabbitmq_inbox, settings.rabbitmq_record, settings.rabbitmq_dead, HOME)
        await verify(settings, connection, settings.rabbitmq_queue, keys)
    finally:
        await connection.close()
