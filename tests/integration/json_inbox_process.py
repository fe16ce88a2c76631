"""json-inbox for integration tests: a process of its own with a real RabbitMQ, Postgres and message store."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.stack import Stack
from tests.support.queues import Queues
from tests.support.service import ServiceProcess
from tests.support.waiting import free_ports

JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}
MIME = "From: a@example.org\r\nSubject: hello\r\n\r\nhi\r\n"


@dataclass(frozen=True)
class Inbox:
    """A running json-inbox and what is around it."""

    process: ServiceProcess
    http: httpx.Client
    queues: Queues
    store: Path
    database: str


def settings_of(address: str, database: str, store: Path) -> dict[str, str]:
    return {
        "RABBITMQ_ADDRESS": address,
        "DB_URI": database,
        "STORAGE_URL": f"dir://{store}",
        "HTTP_LISTEN": f"127.0.0.1:{free_ports(1)[0]}",
        "HTTP_PUBLIC_HOSTNAME": "inbox.example",
        "ACTIONS_SENDER": "actions@example.org",
        "HOLD_TIME": "0.2",
        "ACCEPTED_DIR": str(store.with_name(f"{store.name}-accepted")),
        "TOKENS_SNAPSHOT": str(store.with_name(f"{store.name}-tokens.json")),
    }


def start(settings: Mapping[str, str], *, ready: bool = True) -> ServiceProcess:
    return ServiceProcess("json-inbox", settings, ready=ready)


@contextmanager
def run_inbox(servers: Stack, database_template: str, store: Path, more: Mapping[str, str] | None = None) -> Iterator[Inbox]:
    """One process with a virtual host and a database of its own; ``more`` settings."""
    name = f"json_inbox_{uuid.uuid4().hex[:12]}"
    address = servers.rabbitmq.create_vhost(name)
    servers.declare_topology(address)
    database = servers.postgres.create_database(name, template=database_template)
    settings = settings_of(address, database, store) | {"RABBITMQ_API": servers.rabbitmq.api} | dict(more or {})
    with start(settings) as process, httpx.Client(base_url=f"http://{settings['HTTP_LISTEN']}", timeout=30) as client:
        yield Inbox(process, client, Queues(address), store, database)
    servers.postgres.drop_database(name)
    servers.rabbitmq.drop_vhost(name)


def message(recipient: str = "to@example.org", **properties: Any) -> dict[str, Any]:
    return {"recipient": recipient, "envelope": "from@example.org", "mime": MIME} | properties
