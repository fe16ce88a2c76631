"""The routing keys of the settings, as the pure code wants them."""

from shared.amqp.settings import BrokerSettings
from shared.amqp.topology.default import OPTIONAL_READERS, OPTIONAL_WAITS, WAITS
from shared.delivery.outcome import Keys

ACTIONS = "actions"
"""Key that topology.json binds to the queue of json-inbox: a result there would be taken for an action."""


def outcome_keys(settings: BrokerSettings, *, retries: str) -> Keys:
    """The keys for outcomes of a sender whose retries go to ``retries``."""
    ours = {
        ACTIONS,
        settings.rabbitmq_inbox,
        settings.rabbitmq_outbox,
        settings.rabbitmq_seal,
        settings.rabbitmq_seal + ".retries",
        settings.rabbitmq_retries,
        settings.rabbitmq_dsn,
        settings.rabbitmq_record,
        settings.rabbitmq_dead,
        # Each of these queues is bound to a key of its own name.
        *OPTIONAL_READERS,
        # On the default exchange a key is the name of a queue.
        *(() if settings.rabbitmq_exchange else (settings.rabbitmq_queue, *WAITS, *OPTIONAL_WAITS)),
    }
    return Keys(
        success=settings.rabbitmq_success,
        failure=settings.rabbitmq_failure,
        retries=retries,
        results=settings.rabbitmq_results,
        dsn=settings.rabbitmq_dsn,
        record=settings.rabbitmq_record,
        strategies={"smtp": settings.rabbitmq_outbox, "seal": settings.rabbitmq_seal},
        reserved=frozenset(ours),
        encoding=settings.rabbitmq_encoding,
    )
