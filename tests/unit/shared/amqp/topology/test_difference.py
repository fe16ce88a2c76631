"""Wanted against found."""

import pytest

from shared.amqp.topology.declare import explain_precondition
from shared.amqp.topology.default import read_default_topology
from shared.amqp.topology.difference import Kind, describe_difference, find_differences
from shared.amqp.topology.objects import Binding, Exchange, Queue, Topology, TopologyObject


def test_the_same_is_no_difference() -> None:
    topology = read_default_topology()
    assert find_differences(topology, reversed(topology.objects)) == []


def test_missing_other_and_extra_in_this_order() -> None:
    wanted = Topology((Exchange("e", "direct"), Queue("q"), Binding("e", "q", "k")))
    found: list[TopologyObject] = [Exchange("e", "topic"), Queue("z"), Binding("e", "q", "other"), Queue("q")]
    assert [(item.kind, str(item.subject)) for item in find_differences(wanted, found)] == [
        (Kind.OTHER, "exchange 'e'"),
        (Kind.MISSING, "binding of exchange 'e' to queue 'q' with key 'k'"),
        (Kind.EXTRA, "binding of exchange 'e' to queue 'q' with key 'other'"),
        (Kind.EXTRA, "queue 'z'"),
    ]


@pytest.mark.parametrize(
    ("wanted", "found", "told"),
    [
        (Queue("q"), Queue("q", arguments={"x-queue-type": "classic"}), ""),
        (Queue("q"), Queue("q", durable=False), "durable is false there, true wanted"),
        (
            Queue("q", arguments={"x-queue-type": "quorum", "x-delivery-limit": 20}),
            Queue("q", arguments={"x-queue-type": "quorum", "x-delivery-limit": 10}),
            "x-delivery-limit is 10 there, 20 wanted",
        ),
        (Queue("q", arguments={"x-a": True}), Queue("q", arguments={"x-a": 1}), "x-a is 1 there, true wanted"),
        (
            Queue("q", arguments={"x-max-length": 5}),
            Queue("q", arguments={"x-queue-type": "quorum"}),
            'x-max-length is not set there, 5 wanted, x-queue-type is "quorum" there, "classic" wanted',
        ),
        (Exchange("e", "direct"), Exchange("e", "fanout"), 'exchangetype is "fanout" there, "direct" wanted'),
        (Exchange("e", "direct"), Exchange("e", "direct", internal=True), "internal is true there, false wanted"),
        (Exchange("e", "direct", at="line 1"), Exchange("e", "direct"), ""),
    ],
)
def test_both_values_are_named(wanted: TopologyObject, found: TopologyObject, told: str) -> None:
    assert describe_difference(wanted, found) == told


def test_a_binding_with_other_arguments_is_another_binding() -> None:
    wanted = Topology((Binding("e", "q", "k", arguments={"a": 1}),))
    assert [item.kind for item in find_differences(wanted, [Binding("e", "q", "k")])] == [Kind.MISSING, Kind.EXTRA]


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': received '20' but current is '10'",
            "it exists with other arguments: x-delivery-limit is 10 there, 20 wanted",
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-a' for queue 'a: received' in vhost '/': received none but current is the "
            "value 'it's' of type 'longstr'",
            "it exists with other arguments: x-a is it's there, not set wanted",
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e' in vhost 'v': received 'fanout' but current is 'direct'",
            "it exists with other arguments: type is direct there, fanout wanted",
        ),
        ("PRECONDITION_FAILED - invalid arg 'x-b'\n for queue", "invalid arg 'x-b' for queue"),
    ],
)
def test_rabbitmq_s_own_words_for_a_difference(reply: str, told: str) -> None:
    assert explain_precondition(reply) == told
