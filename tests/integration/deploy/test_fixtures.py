"""The shared servers: each test gets a virtual host and a database of its own."""

import psycopg
from aio_pika import connect
from psycopg.rows import scalar_row

from tests.stack import Stack


async def test_a_vhost_is_empty_and_can_be_used(servers: Stack, vhost: str) -> None:
    async with await connect(vhost) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("mine", durable=True, arguments={"x-queue-type": "quorum"})
    name = vhost.rpartition("/")[2]
    assert [row["name"] for row in servers.rabbitmq.call_api("GET", f"/api/queues/{name}")] == [queue.name]


def test_a_database_is_empty_and_durable(empty_database: str) -> None:
    with psycopg.connect(empty_database, row_factory=scalar_row) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == 0
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.execute(f"SHOW {setting}").fetchone() == "on"
