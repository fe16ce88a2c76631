"""The optional queues beside those of topology.json."""

from datetime import timedelta
from pathlib import Path

from services.webhook.waiting import HOLD
from shared.amqp.keys import outcome_keys
from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.default import MAIN, OPTIONAL_WAITS, read_default_topology
from shared.amqp.topology.objects import Binding, Exchange
from shared.amqp.topology.parse import parse_topology
from shared.amqp.topology.routing import find_queues
from shared.amqp.topology.verify import find_unbound
from shared.delivery.waiting import WAIT_QUEUES, WEBHOOK_WAIT_QUEUES

ROOT = Path(__file__).resolve().parents[4]


OPTIONAL = parse_topology((ROOT / "topology-webhook.json").read_text())


def test_a_record_leads_to_the_recorder_alone() -> None:
    """A queue beside it would have the record confirmed while ``records`` is gone, and the record would be lost."""
    whole = [*read_default_topology(), *OPTIONAL]
    exchanges = [item for item in whole if isinstance(item, Exchange)]
    bindings = [item for item in whole if isinstance(item, Binding)]
    assert find_queues(exchanges, bindings, MAIN, "record") == {"records"}
    assert find_unbound(whole, MAIN, ["record", "webhook", "webhook.batches"], OPTIONAL_WAITS) == []
    less = [item for item in whole if not (isinstance(item, Binding) and item.destination == "records")]
    assert find_unbound(less, MAIN, ["record"]) == [f"no queue is bound to exchange {MAIN!r} with key 'record'"]


def test_a_message_may_not_ask_for_its_result_there() -> None:
    assert {"webhook", "webhook.batches"} <= outcome_keys(BrokerSettings(), retries="retries").reserved
    assert set(OPTIONAL_WAITS) <= outcome_keys(BrokerSettings(rabbitmq_exchange=""), retries="retries").reserved


def test_its_wait_queues_are_its_own_bounded_and_lose_nothing_that_they_took() -> None:
    waits = {queue.name: queue.arguments for queue in OPTIONAL.queues if queue.name in OPTIONAL_WAITS}
    declared = {name: timedelta(milliseconds=arguments["x-message-ttl"]) for name, arguments in waits.items()}
    assert {name: duration for duration, name in WEBHOOK_WAIT_QUEUES} == declared
    assert [duration for duration, _ in WEBHOOK_WAIT_QUEUES] == sorted(declared.values(), reverse=True)
    assert not set(waits) & {name for _, name in WAIT_QUEUES}
    assert HOLD in waits
    mails = {queue.name: queue.arguments for queue in read_default_topology().queues}
    for arguments in waits.values():
        own = {"x-message-ttl": arguments["x-message-ttl"], "x-max-length-bytes": 256 * 1024 * 1024}
        assert arguments == {**mails["wait.5s"], **own}
