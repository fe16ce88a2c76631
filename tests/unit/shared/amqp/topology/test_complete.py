"""A user's file plus what our processes need."""

from shared.amqp.topology.complete import complete
from shared.amqp.topology.default import OPTIONAL, WAITS, read_default_topology
from shared.amqp.topology.objects import Binding, Exchange, Queue, Topology, TopologyObject
from shared.amqp.topology.routing import find_queues


def reached(topology: Topology, key: str, exchange: str = "mailwarren") -> frozenset[str]:
    return find_queues(topology.exchanges, topology.bindings, exchange, key)


def test_nothing_becomes_all_but_what_is_off_by_default() -> None:
    default = read_default_topology()
    whole = complete(Topology(()), default)
    off = {str(item) for item in default} - {str(item) for item in whole}
    assert off == {text for name in OPTIONAL for text in (f"queue '{name}'", str(Binding("mailwarren", name, name)))}
    assert whole.warnings == ()


def test_the_whole_is_complete() -> None:
    default = read_default_topology()
    assert complete(default, default).objects == default.objects
    once = complete(Topology(()), default)
    assert complete(once, default).objects == once.objects


def test_the_users_objects_come_first_and_unchanged() -> None:
    users: tuple[TopologyObject, ...] = (
        Exchange("mailwarren", "topic"),
        Queue("mine"),
        Binding("mailwarren", "mine", "success"),
        Queue("retry"),
        Binding("mailwarren", "retry", "retries"),
    )
    whole = complete(Topology(users), read_default_topology())
    assert whole.objects[: len(users)] == users
    assert reached(whole, "success") == {"mine"}
    assert reached(whole, "retries") == {"retry", "outbox"}
    assert reached(whole, "failure") == {"failures"}
    assert "success" not in {queue.name for queue in whole.queues}
    assert all(reached(whole, "outbox", name) == {name} for name in WAITS)


def test_a_queue_that_may_lose_mail_and_a_loop_are_told() -> None:
    users = Topology((Queue("outbox"), Queue("inbox", False), Binding("mailwarren", "outbox", "failure")))
    lines = complete(users, read_default_topology()).warnings
    assert [line.partition(":")[0] for line in lines] == ["queue 'outbox'", "queue 'inbox'", "rabbitmq-failure"]


def test_an_alternate_exchange_is_told() -> None:
    users = Topology((Exchange("mailwarren", "direct", arguments={"alternate-exchange": "lost"}),))
    (line,) = complete(users, read_default_topology()).warnings
    assert "alternate exchange" in line
