"""Fixtures that give tests real servers. Without the servers' programs a test that wants them fails: `make test`
installs them."""

import logging
import uuid
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests.integration.s3_proxy import S3Proxy
from tests.integration.swift import Swift
from tests.stack import Stack

_TEMPLATE = "mailwarren_template"

# Few examples each time and no time limit (a loaded machine is no bug); `--hypothesis-profile=thorough` looks harder.
settings.register_profile("house", max_examples=30, deadline=None)
settings.register_profile("thorough", max_examples=2000, deadline=None)
settings.load_profile("house")


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A process or command that ran inside the test sets up logs for the whole process: put back, or the next test's logs
    are filtered by the level of this one."""
    before, logger = structlog.get_config(), logging.getLogger("aiormq")
    level = logger.level
    yield
    structlog.configure(**before)
    logger.setLevel(level)


@pytest.fixture(scope="session")
def servers() -> Iterator[Stack]:
    """RabbitMQ and Postgres, empty, the same for the whole session. Do not stop or kill them: a test that wants to
    takes a ``Stack`` of its own."""
    with Stack(servers_only=True) as stack:
        yield stack


@pytest.fixture
def vhost(servers: Stack) -> Iterator[str]:
    """The ``amqp://`` URL of an empty virtual host of this test's own; ``servers.rabbitmq.api`` manages it."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield servers.rabbitmq.create_vhost(name)
    servers.rabbitmq.drop_vhost(name)


@pytest.fixture(scope="session")
def database_template(servers: Stack) -> str:
    """The name of a database with all migrations applied, to be copied; nobody may be connected to it."""
    servers.run_command(["migrate"], DB_URI=servers.postgres.create_database(_TEMPLATE))
    return _TEMPLATE


@pytest.fixture
def database(servers: Stack, database_template: str) -> Iterator[str]:
    """The ``postgresql://`` URL of a database of this test's own, migrations applied, without rows."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield servers.postgres.create_database(name, template=database_template)
    servers.postgres.drop_database(name)


@pytest.fixture
def empty_database(servers: Stack) -> Iterator[str]:
    """The ``postgresql://`` URL of a database of this test's own, without tables."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield servers.postgres.create_database(name)
    servers.postgres.drop_database(name)


@pytest.fixture
def pipeline(servers: Stack, vhost: str, database: str) -> Iterator[Stack]:
    """The shared servers with a virtual host (topology.json declared), a database and a message store of this test's
    own, and none of our processes yet: ``pipeline.start("smtp-sender", SMTP_SINK_ADDRESS=…)``."""
    settings = {"RABBITMQ_ADDRESS": vhost, "RABBITMQ_API": servers.rabbitmq.api, "DB_URI": database}
    with Stack(settings, services=()) as stack:
        yield stack


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    """A real S3, the same for the whole session."""
    with Swift(tmp_path_factory.mktemp("swift")) as swift:
        swift.make_bucket("payloads")
        yield swift


@pytest.fixture(scope="module")
def swift(swift_server: Swift) -> Swift:
    """A real S3 with an empty bucket ``payloads``. Frozen at most, and thawed again by who did that."""
    swift_server.empty_bucket("payloads")
    return swift_server


@pytest.fixture
def proxy(swift: Swift) -> Iterator[S3Proxy]:
    """The way to it, on which a test can make trouble."""
    with S3Proxy(swift.address) as proxy:
        yield proxy
