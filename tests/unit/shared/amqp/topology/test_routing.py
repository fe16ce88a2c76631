"""Where a routing key leads."""

import pytest

from shared.amqp.topology.default import READERS, read_default_topology
from shared.amqp.topology.objects import Binding, Exchange
from shared.amqp.topology.routing import find_loops, find_queues, matches


@pytest.mark.parametrize(
    ("kind", "pattern", "key", "passes"),
    [
        ("direct", "a.b", "a.b", True),
        ("direct", "*", "a", False),
        ("fanout", "a", "b", True),
        ("topic", "a.b", "a.b", True),
        ("topic", "a.*", "a.b", True),
        ("topic", "a.*", "a", False),
        ("topic", "a.*", "a.b.c", False),
        ("topic", "a.#", "a", True),
        ("topic", "a.#", "a.b.c", True),
        ("topic", "a.#", "ab", False),
        ("topic", "#", "", True),
        ("topic", "#.b", "b", True),
        ("topic", "#.b", "a.a.b", True),
        ("topic", "#.b", "ab", False),
        ("topic", "a.#.b", "a.b", True),
        ("topic", "a.#.b", "a.x.y.b", True),
        ("topic", "a.#.b", "a.xb", False),
        ("topic", "*.#", "a", True),
        ("topic", "a.#.#", "a", True),
        ("topic", "succes*", "success", False),
        ("topic", "a+b", "aab", False),
        ("headers", "", "anything", True),
    ],
)
def test_matches(kind: str, pattern: str, key: str, passes: bool) -> None:
    assert matches(kind, pattern, key) is passes


def test_keys_lead_through_exchanges_and_circles_end() -> None:
    exchanges = [Exchange("a", "direct"), Exchange("b", "topic"), Exchange("c", "fanout")]
    bindings = [
        Binding("a", "b", "x.y", to_exchange=True),
        Binding("b", "c", "x.#", to_exchange=True),
        Binding("c", "a", to_exchange=True),
        Binding("c", "q"),
        Binding("b", "other", "z"),
    ]
    assert find_queues(exchanges, bindings, "a", "x.y") == {"q"}
    assert find_queues(exchanges, bindings, "a", "x") == frozenset()


def test_the_shipped_results_lead_to_applications_alone() -> None:
    topology = read_default_topology()
    keys = {"rabbitmq-success": "success", "rabbitmq-failure": "failure"}
    assert find_loops(topology.exchanges, topology.bindings, "mailwarren", keys, READERS) == []
    bindings = [*topology.bindings, Binding("mailwarren", "outbox", "failure")]
    (sentence,) = find_loops(topology.exchanges, bindings, "mailwarren", keys, READERS)
    assert "rabbitmq-failure: key 'failure' leads into queue 'outbox'" in sentence


def test_on_the_default_exchange_a_key_is_a_queue() -> None:
    (sentence,) = find_loops([], [], "", {"rabbitmq-success": "inbox"}, READERS)
    assert "queue 'inbox'" in sentence
