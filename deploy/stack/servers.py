"""The two servers of a stack, made from what it remembers."""

import shutil
from pathlib import Path

from deploy.stack.memory import Memory
from deploy.stack.places import can_reach
from deploy.stack.postgres import Postgres, server_user
from deploy.stack.rabbitmq import RabbitMQ

_USER = "mailwarren"
_DATABASE = "mailwarren"


def rabbitmq_of(memory: Memory) -> RabbitMQ:
    """The private node."""
    return RabbitMQ(
        memory.folder / "rabbitmq",
        node=f"{memory.name}@localhost",  # always resolvable, whatever the machine is called
        port=memory.port("rabbitmq"),
        api_port=memory.port("rabbitmq-api"),
        metrics_port=memory.port("rabbitmq-metrics"),
        distribution_port=memory.port("rabbitmq-distribution"),
        epmd_port=memory.port("epmd"),
        user=_USER,
        password=memory.rabbitmq_password,
        cookie=memory.rabbitmq_cookie,
    )


def postgres_of(memory: Memory) -> Postgres:
    """The private cluster: where its data are, else where they can be."""
    if not memory.postgres_folder or not Path(memory.postgres_folder, "data", "PG_VERSION").exists():
        owner = server_user()
        if owner is None or can_reach(owner, memory.folder):
            memory.postgres_folder = str(memory.folder / "postgres")
        else:
            memory.postgres_folder = str(memory.settle_short_folder() / "postgres")
        # A cluster whose making was cut short has no PG_VERSION yet: initdb wants an empty folder.
        shutil.rmtree(Path(memory.postgres_folder), ignore_errors=True)
        memory.save()
    return Postgres(
        Path(memory.postgres_folder),
        port=memory.port("postgres"),
        user=_USER,
        password=memory.postgres_password,
        database=_DATABASE,
    )
