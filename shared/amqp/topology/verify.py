"""What a process looks at before it starts: is there what it consumes, and does what it publishes lead anywhere?

Processes declare nothing (``rabbitmq-declare: true`` asks for it). AMQP shows whether exchanges and queues exist; bindings
are looked at through the management API, where ``rabbitmq-api`` is set.
"""

from collections.abc import Iterable, Sequence

import aiormq

from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.apply import apply_settings
from shared.amqp.topology.default import WAITS
from shared.amqp.topology.inspect import fetch_objects, find_missing, parse_vhost
from shared.amqp.topology.objects import Binding, Exchange, Queue, TopologyObject
from shared.amqp.topology.routing import find_queues
from shared.log import get_logger
from shared.settings import mask_url
from shared.trouble import BadSetting, Unavailable

log = get_logger()

CURE = "apply topology.json: mailwarren amqpinit URL < topology.json"


async def verify(
    settings: BrokerSettings, connection: aiormq.Connection, queue: str, keys: Sequence[str], waits: Sequence[str] = WAITS
) -> None:
    """Return when all is there that a process needs: the queue it consumes, the exchange and ``keys`` that it publishes to.

    ``queue``: "" for a process that consumes nothing (such a one needs no ``waits``, the wait exchanges, either). ``keys``: empty ones
    are off.
    With ``rabbitmq-declare`` it is declared first. Raises BadSetting, a sentence that names all that is missing, or BrokerLost.
    """
    wanted = [key for key in dict.fromkeys(keys) if key]
    if settings.rabbitmq_declare:
        await apply_settings(settings, connection)
    missing = await find_missing(connection, _list_needed(settings, queue, wanted, waits))
    lost = [f"{item} is missing" for item in missing]
    if not missing and settings.rabbitmq_exchange:
        lost = await find_lost(settings, queue, wanted, waits)
    if lost:
        raise BadSetting(f"{_join(lost)} at {mask_url(settings.rabbitmq_address)}: {CURE}")


def find_unbound(
    objects: Iterable[TopologyObject], exchange: str, keys: Sequence[str], waits: Sequence[str] = WAITS
) -> list[str]:
    """A phrase for every key, and every wait exchange, that leads to no queue. Pure."""
    found = list(objects)
    exchanges = [item for item in found if isinstance(item, Exchange)]
    bindings = [item for item in found if isinstance(item, Binding)]
    phrases = [
        f"no queue is bound to exchange {exchange!r} with key {key!r}"
        for key in keys
        if not find_queues(exchanges, bindings, exchange, key)
    ]
    return phrases + [
        f"no queue is bound to exchange {name!r}" for name in waits if not find_queues(exchanges, bindings, name, "")
    ]


def _list_needed(settings: BrokerSettings, queue: str, keys: Sequence[str], waits: Sequence[str]) -> list[Exchange | Queue]:
    needed: list[Exchange | Queue] = []
    if queue:
        needed.append(Queue(queue))
        needed += [Exchange(name, "fanout") for name in waits]
    if settings.rabbitmq_exchange:
        needed.append(Exchange(settings.rabbitmq_exchange, "direct"))
    else:
        # On the default exchange a key is the name of a queue.
        needed += [Queue(key) for key in keys if key != queue]
    return needed


async def find_lost(settings: BrokerSettings, queue: str, keys: Sequence[str], waits: Sequence[str] = WAITS) -> list[str]:
    """A phrase for every binding that a process needs and that is not there; nothing when the management API cannot be asked."""
    if not settings.rabbitmq_api:
        log.info("bindings not verified: rabbitmq-api is not set")
        return []
    try:
        vhost = parse_vhost(settings.rabbitmq_address)
        objects = await fetch_objects(settings.rabbitmq_api, vhost, verify=settings.rabbitmq_verify)
    except Unavailable as error:
        # The broker itself works: a management plugin that is down must not keep the mail from leaving.
        log.warning("bindings not verified", reason=str(error))
        return []
    return find_unbound(objects, settings.rabbitmq_exchange, keys, waits if queue else ())


def _join(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]
