"""``rabbitmq-declare: true``: topology.json first, then a queue for every routing key of the settings that leads nowhere yet."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import aiormq

from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.declare import declare
from shared.amqp.topology.default import MAIN, READERS, read_default_topology
from shared.amqp.topology.inspect import fetch_objects, parse_vhost
from shared.amqp.topology.objects import Binding, Exchange, Queue, Topology, TopologyObject
from shared.amqp.topology.routing import find_queues
from shared.log import get_logger
from shared.settings import spell
from shared.trouble import BadSetting, Unavailable

log = get_logger()

WORK: Mapping[str, Any] = {
    "x-queue-type": "quorum",
    "x-delivery-limit": 20,
    "x-dead-letter-exchange": MAIN,
    "x-dead-letter-routing-key": "dead",
}
"""Arguments of a queue with mail for our processes."""
KEEP: Mapping[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
"""Arguments of a queue with mail for somebody else. Never dropped; 4.x would drop after 20 looks without the number."""
VIEW: Mapping[str, Any] = {**KEEP, "x-max-length": 10_000, "x-overflow": "drop-head"}
"""Arguments of a queue with results: bounded, because perhaps nobody reads it."""

KEYS: Mapping[str, Mapping[str, Any]] = {
    "rabbitmq_outbox": WORK,
    "rabbitmq_retries": WORK,
    "rabbitmq_dsn": WORK,
    "rabbitmq_inbox": WORK,
    "rabbitmq_seal": WORK,
    "rabbitmq_record": WORK,
    "rabbitmq_dead": KEEP,
    "rabbitmq_local": KEEP,
    "rabbitmq_reports": KEEP,
    "rabbitmq_success": VIEW,
    "rabbitmq_failure": VIEW,
    "rabbitmq_results": VIEW,
    "rabbitmq_retry": VIEW,
    "rabbitmq_refused": VIEW,
}
"""Setting with a routing key → arguments of the queue that is made for it."""

_QUORUM_ONLY = ("x-queue-type", "x-delivery-limit", "x-dead-letter-strategy")


async def apply_settings(settings: BrokerSettings, connection: aiormq.Connection) -> Topology:
    """Declare what the settings need; what was declared. Raises BadSetting that names the object the broker refused."""
    bound: list[TopologyObject] = []
    if settings.rabbitmq_api:
        try:
            vhost = parse_vhost(settings.rabbitmq_address)
            bound = await fetch_objects(settings.rabbitmq_api, vhost, verify=settings.rabbitmq_verify)
        except Unavailable as error:
            log.warning("bindings that are there already are not known", reason=str(error))
    topology = plan(settings, read_default_topology(), bound)
    for warning in topology.warnings:
        log.warning(warning)
    declared = await declare(connection, topology)
    if declared.refused is not None:
        raise BadSetting(f"rabbitmq-declare: {declared.refused}: {declared.reason}")
    return topology


def plan(settings: BrokerSettings, default: Topology, bound: Iterable[TopologyObject] = ()) -> Topology:
    """What ``rabbitmq-declare`` declares. ``bound``: what is known to be on the broker. Pure."""
    objects = [_adapt(item, settings) for item in default if not _is_on_default_exchange(item, settings)]
    known = [*objects, *bound]
    exchanges = [item for item in known if isinstance(item, Exchange)]
    bindings = [item for item in known if isinstance(item, Binding)]
    names = {item.name for item in known if isinstance(item, Queue)}
    added: list[TopologyObject] = []
    warnings = []
    wanted = {spell(field): (getattr(settings, field, ""), arguments) for field, arguments in KEYS.items()}
    for setting, (key, arguments) in wanted.items():
        if not key or (
            key in names if not settings.rabbitmq_exchange else find_queues(exchanges, bindings, settings.rabbitmq_exchange, key)
        ):
            continue
        if key not in names:
            names.add(key)
            added.append(_adapt(Queue(key, True, arguments), settings))
        if settings.rabbitmq_exchange:
            binding = Binding(settings.rabbitmq_exchange, key, key)
            bindings.append(binding)
            added.append(binding)
        if arguments is WORK and key not in READERS:
            warnings.append(
                f"{setting}: a queue {key!r} is declared; mail rests there until a process is given it as rabbitmq-queue"
            )
    if settings.rabbitmq_queue and settings.rabbitmq_queue not in names:
        added.append(_adapt(Queue(settings.rabbitmq_queue, True, WORK), settings))
    return Topology((*objects, *added), (*warnings, *_warn_of_loss(settings)))


def _warn_of_loss(settings: BrokerSettings) -> list[str]:
    reasons = {
        "rabbitmq-lazy is true": settings.rabbitmq_lazy,
        "rabbitmq-maxpriority is set": settings.rabbitmq_maxpriority is not None,
        "rabbitmq-durable is false": not settings.rabbitmq_durable,
    }
    return [
        f"{reason}: queues are declared as classic queues, mail may be lost with a broker node"
        for reason, holds in reasons.items()
        if holds
    ]


def _is_on_default_exchange(item: TopologyObject, settings: BrokerSettings) -> bool:
    """The default exchange is there, and takes no bindings."""
    if settings.rabbitmq_exchange:
        return False
    return (isinstance(item, Exchange) and item.name == MAIN) or (isinstance(item, Binding) and item.exchange == MAIN)


def _adapt(item: TopologyObject, settings: BrokerSettings) -> TopologyObject:
    """An object of topology.json under the exchange and with the durability of the settings."""
    if isinstance(item, Binding):
        return replace(item, exchange=settings.rabbitmq_exchange) if item.exchange == MAIN else item
    if isinstance(item, Exchange):
        name = settings.rabbitmq_exchange if item.name == MAIN else item.name
        return replace(item, name=name, durable=settings.rabbitmq_durable)
    arguments = {
        name: settings.rabbitmq_exchange if name == "x-dead-letter-exchange" and value == MAIN else value
        for name, value in item.arguments.items()
    }
    if settings.rabbitmq_durable and not settings.rabbitmq_lazy and settings.rabbitmq_maxpriority is None:
        return replace(item, arguments=arguments)
    # Quorum queues are durable, know no priorities before 4.x and no lazy mode: 406 on 3.10.
    classic = {name: value for name, value in arguments.items() if name not in _QUORUM_ONLY}
    if settings.rabbitmq_lazy:
        classic["x-queue-mode"] = "lazy"
    if settings.rabbitmq_maxpriority is not None:
        classic["x-max-priority"] = settings.rabbitmq_maxpriority
    return replace(item, durable=settings.rabbitmq_durable, arguments=classic)
