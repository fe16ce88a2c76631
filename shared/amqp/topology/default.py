"""The topology that we ship: ``topology.json`` in a checkout, ``shared/amqp/topology.json`` in an installed wheel."""

from collections.abc import Mapping
from pathlib import Path

from shared.amqp.topology.objects import Topology
from shared.amqp.topology.parse import parse_topology
from shared.delivery.waiting import WAIT_QUEUES, WEBHOOK_WAIT_QUEUES

MAIN = "mailwarren"
"""Name of the exchange in the file; processes may be told another one (``rabbitmq-exchange``)."""
READERS: Mapping[str, str] = {
    "inbox": "router",
    "actions": "json-inbox",
    "outbox": "smtp-sender",
    "seal": "seal-sender",
    "records": "result-recorder",
}
"""Queue → the process of ours that reads it. Results must never lead into one of them."""
OPTIONAL_READERS: Mapping[str, str] = {"webhook": "webhook", "webhook.batches": "webhook"}
"""The same for queues that are not in topology.json: topology-webhook.json has them, for those who run the process."""
APPLICATIONS = ("success", "failures", "local", "reports", "refused")
"""Queues that applications read."""
OPTIONAL = ("local", "reports", "refused")
"""Those of them whose routing key is off by default."""
DEAD = "dead"
"""Queue of the messages parked for an operator."""
WAITS = tuple(name for _, name in WAIT_QUEUES)
"""Fanout exchanges, each with a queue of the same name."""
OPTIONAL_WAITS = tuple(name for _, name in WEBHOOK_WAIT_QUEUES)
"""The same in topology-webhook.json."""


def find_default_topology() -> Path:
    """Where the file is."""
    here = Path(__file__).resolve().parent
    for candidate in (here.parent / "topology.json", here.parents[2] / "topology.json"):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError("topology.json is neither in the package nor in the checkout: the installation is broken")


def read_default_topology() -> Topology:
    """The topology that we ship."""
    return parse_topology(find_default_topology().read_text(encoding="utf-8"))
