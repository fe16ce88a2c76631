"""A user's own amqpinit file plus what our processes need. Pure."""

from shared.amqp.topology.default import APPLICATIONS, MAIN, OPTIONAL, READERS
from shared.amqp.topology.objects import Binding, Exchange, Queue, Topology, TopologyObject
from shared.amqp.topology.routing import find_loops, find_queues

RESULTS = {"rabbitmq-success": "success", "rabbitmq-failure": "failure"}
"""Setting → key, by default: results for applications."""


def complete(user: Topology, default: Topology) -> Topology:
    """The user's objects, unchanged and first, then those of ``default`` that are not there yet.

    A key of ours is bound to our queue unless the user's file leads it there. Results (``success``, ``failure``) get our
    queue only when they lead nowhere; what is off by default is left out. Warnings name what our processes cannot live with.
    """
    names = {(type(item), item.name) for item in user if not isinstance(item, Binding)}
    new_exchanges = [item for item in default.exchanges if (Exchange, item.name) not in names]
    exchanges = [*user.exchanges, *new_exchanges]
    bindings, queues = [], set()
    for binding in default.bindings:
        if binding.destination in OPTIONAL:
            continue
        reached = find_queues(exchanges, user.bindings, binding.exchange, binding.routing_key)
        if binding.destination in reached or (binding.destination in APPLICATIONS and reached):
            continue
        bindings.append(binding)
        queues.add(binding.destination)
    new_queues = [item for item in default.queues if item.name in queues and (Queue, item.name) not in names]
    whole: tuple[TopologyObject, ...] = (*user.objects, *new_exchanges, *new_queues, *bindings)
    return Topology(whole, (*user.warnings, *_warn(user), *_find_loops(Topology(whole))))


def _warn(user: Topology) -> list[str]:
    warnings = []
    for queue in user.queues:
        if queue.name in READERS and (queue.kind != "quorum" or not queue.durable):
            kind = queue.kind if queue.durable else "non-durable"
            warnings.append(f"{queue}: a {kind} queue, read by {READERS[queue.name]}: mail may be lost with a broker node")
    for exchange in user.exchanges:
        if exchange.name == MAIN and "alternate-exchange" in exchange.arguments:
            warnings.append(f"{exchange}: with an alternate exchange RabbitMQ confirms mail that reached no queue of ours")
    return warnings


def _find_loops(whole: Topology) -> list[str]:
    return find_loops(whole.exchanges, whole.bindings, MAIN, RESULTS, READERS)
