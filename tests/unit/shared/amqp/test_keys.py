"""The routing keys of the settings, and those that no message may name."""

from __future__ import annotations

import pytest

from shared.amqp.keys import outcome_keys
from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.default import READERS, read_default_topology
from shared.amqp.topology.objects import Binding


def test_from_the_settings() -> None:
    settings = BrokerSettings(
        rabbitmq_success="ok", rabbitmq_failure="", rabbitmq_results="all", rabbitmq_seal="s", rabbitmq_encoding="gzip"
    )
    keys = outcome_keys(settings, retries="again")
    assert (keys.success, keys.failure, keys.results, keys.retries, keys.record) == ("ok", "", "all", "again", "record")
    assert keys.strategies == {"smtp": "outbox", "seal": "s"}
    assert keys.encoding == "gzip"
    assert keys.published == ("ok", "again", "all", "dsn", "record", "outbox", "s")


def test_every_key_of_the_topology_that_feeds_one_of_our_queues_is_reserved() -> None:
    keys = outcome_keys(BrokerSettings(), retries="retries")
    bindings = [item for item in read_default_topology().objects if isinstance(item, Binding) and item.exchange == "mailwarren"]
    ours = {binding.routing_key for binding in bindings if binding.destination in READERS or binding.destination == "dead"}
    assert ours <= keys.reserved
    assert {"actions", "outbox", "retries", "dsn", "seal", "seal.retries", "record", "inbox", "dead"} <= ours
    assert not {"success", "failure", "local", "reports", "refused"} & keys.reserved


@pytest.mark.parametrize("exchange", ["", "mailwarren"])
def test_on_the_default_exchange_a_key_is_a_queue(exchange: str) -> None:
    settings = BrokerSettings(rabbitmq_exchange=exchange, rabbitmq_queue="my.queue")
    reserved = outcome_keys(settings, retries="retries").reserved
    assert ({"my.queue", "wait.5s"} <= reserved) == (exchange == "")
