"""One process of each kind for all attacks of a test run: they must survive them all."""

from collections.abc import Iterator

import pytest

from tests.integration.attacks.targets import Target, open_target
from tests.integration.json_inbox_process import Inbox as Web
from tests.integration.json_inbox_process import run_inbox as run_web
from tests.stack import Stack


@pytest.fixture(scope="session")
def refusing(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """smtp-inbox as it is by default: a CR or LF alone in the content is refused."""
    amqp = servers.rabbitmq.create_vhost("attacks-refusing")
    with open_target(tmp_path_factory.mktemp("refusing"), amqp) as target:
        yield target
        assert target.inbox.process.poll() is None
    servers.rabbitmq.drop_vhost("attacks-refusing")


@pytest.fixture(scope="session")
def normalizing(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """smtp-inbox that makes CRLF of a CR or LF alone."""
    amqp = servers.rabbitmq.create_vhost("attacks-normalizing")
    with open_target(tmp_path_factory.mktemp("normalizing"), amqp, INBOUND_SMTP_BARE_NEWLINES="normalize") as target:
        yield target
        assert target.inbox.process.poll() is None
    servers.rabbitmq.drop_vhost("attacks-normalizing")


@pytest.fixture(scope="session")
def running_web(servers: Stack, database_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """json-inbox as it is by default, with all its log."""
    store = tmp_path_factory.mktemp("payloads")
    with run_web(servers, database_template, store, {"LOG_LEVEL": "debug", "CLIENT_KEY_PREFIX": "mine/"}) as web:
        yield web
        assert web.process.get("/liveness")[0] == 200


@pytest.fixture
def web(running_web: Web) -> Web:
    """The same, with empty queues."""
    for queue in ("inbox", "records", "dead"):
        running_web.queues.take(queue)
    return running_web
