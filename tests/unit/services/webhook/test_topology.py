"""The optional queues beside those of topology.json."""

from pathlib import Path

from shared.amqp.keys import outcome_keys
from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.default import MAIN, read_default_topology
from shared.amqp.topology.objects import Binding
from shared.amqp.topology.parse import parse_topology
from shared.amqp.topology.verify import find_unbound

ROOT = Path(__file__).resolve().parents[4]


def test_the_copy_for_webhooks_does_not_pass_for_the_record() -> None:
    """Somebody removes the binding of ``records``: the processes must notice, though the key still leads somewhere."""
    optional = parse_topology((ROOT / "topology-webhook.json").read_text())
    whole = [*read_default_topology(), *optional]
    assert find_unbound(whole, MAIN, ["record", "webhook", "webhook.batches"]) == []
    less = [item for item in whole if not (isinstance(item, Binding) and item.destination == "records")]
    assert find_unbound(less, MAIN, ["record"]) == [f"no queue is bound to exchange {MAIN!r} with key 'record'"]


def test_a_message_may_not_ask_for_its_result_there() -> None:
    assert {"webhook", "webhook.batches"} <= outcome_keys(BrokerSettings(), retries="retries").reserved
