"""What ``rabbitmq-declare`` declares for which settings."""

from typing import Any

import pytest

from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.apply import plan
from shared.amqp.topology.default import MAIN, read_default_topology
from shared.amqp.topology.objects import Binding, Queue, Topology, TopologyObject
from shared.amqp.topology.routing import find_queues
from shared.amqp.topology.verify import find_unbound


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BrokerSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def planned(**settings: Any) -> Topology:
    return plan(BrokerSettings(**settings), read_default_topology())


def test_the_defaults_are_topology_json() -> None:
    assert planned() == read_default_topology()


def test_a_key_without_a_binding_gets_a_queue_of_its_name() -> None:
    topology = planned(rabbitmq_results="results", rabbitmq_success="delivered", rabbitmq_local="local")
    added = topology.objects[len(read_default_topology().objects) :]
    view = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000, "x-max-length": 10_000, "x-overflow": "drop-head"}
    assert set(map(str, added)) == {
        str(item)
        for item in (
            Queue("delivered"),
            Binding(MAIN, "delivered", "delivered"),
            Queue("results"),
            Binding(MAIN, "results", "results"),
        )
    }
    assert all(item.arguments == view for item in added if isinstance(item, Queue))


def test_what_is_bound_on_the_broker_is_left_alone() -> None:
    settings = BrokerSettings(rabbitmq_results="results")
    there: list[TopologyObject] = [Queue("elsewhere"), Binding(MAIN, "elsewhere", "results")]
    assert plan(settings, read_default_topology(), there) == read_default_topology()


def test_mail_on_a_key_of_ones_own_is_told() -> None:
    topology = planned(rabbitmq_retries="again")
    assert [queue.name for queue in topology.queues if queue.name == "again"] == ["again"]
    assert ["rabbitmq-retries" in line for line in topology.warnings] == [True]


def test_another_exchange_takes_the_place_of_ours_everywhere() -> None:
    topology = planned(rabbitmq_exchange="post")
    assert MAIN not in {exchange.name for exchange in topology.exchanges}
    assert MAIN not in {binding.exchange for binding in topology.bindings}
    letters = {queue.arguments.get("x-dead-letter-exchange") for queue in topology.queues}
    assert letters == {"post", None}
    assert find_unbound(topology, "post", ["outbox", "retries", "dead", "record"]) == []


def test_on_the_default_exchange_keys_are_queues() -> None:
    topology = planned(rabbitmq_exchange="", rabbitmq_retries="outbox", rabbitmq_record="records", rabbitmq_failure="failures")
    assert MAIN not in {item.name for item in topology.exchanges} | {item.exchange for item in topology.bindings}
    names = {queue.name for queue in topology.queues}
    assert {"outbox", "records", "failures", "dsn"} <= names
    assert "failure" not in names
    waiting = next(queue for queue in topology.queues if queue.name == "wait.5s")
    assert waiting.arguments["x-dead-letter-exchange"] == ""


@pytest.mark.parametrize(
    ("settings", "durable", "argument"),
    [
        ({"rabbitmq_lazy": True}, True, ("x-queue-mode", "lazy")),
        ({"rabbitmq_maxpriority": 5}, True, ("x-max-priority", 5)),
        ({"rabbitmq_durable": False}, False, None),
    ],
)
def test_what_no_quorum_queue_can_be_is_a_classic_queue_and_told(
    settings: dict[str, Any], durable: bool, argument: tuple[str, Any] | None
) -> None:
    topology = planned(**settings)
    assert {queue.durable for queue in topology.queues} == {durable}
    assert {queue.kind for queue in topology.queues} == {"classic"}
    assert not any(
        "x-delivery-limit" in queue.arguments or "x-dead-letter-strategy" in queue.arguments for queue in topology.queues
    )
    if argument:
        assert all(queue.arguments[argument[0]] == argument[1] for queue in topology.queues)
    assert ["mail may be lost" in line for line in topology.warnings] == [True]


def test_the_consumed_queue_is_there() -> None:
    topology = planned(rabbitmq_queue="mine")
    assert topology.objects[-1] == Queue("mine", True, topology.queues[0].arguments)


def test_unbound_keys_and_waits_are_named() -> None:
    topology = read_default_topology()
    assert find_unbound(topology, MAIN, ["outbox", "nowhere"]) == [
        "no queue is bound to exchange 'mailwarren' with key 'nowhere'"
    ]
    less = [item for item in topology if not (isinstance(item, Binding) and item.exchange == "wait.1h")]
    assert find_unbound(less, MAIN, []) == ["no queue is bound to exchange 'wait.1h'"]
    assert find_queues(topology.exchanges, topology.bindings, "actions", "any") == {"actions"}
