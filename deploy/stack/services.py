"""Our processes, in one table: what each needs and where it listens."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from deploy.stack.places import StackError


@dataclass(frozen=True)
class Service:
    """A process of ours, ``mailwarren run NAME``.

    ``listens``: setting → its value with ``{address}`` for the ``host:port`` to listen on. All copies of a service
    share that port (SO_REUSEPORT), as ``--workers`` does; each copy has a metrics port of its own.
    """

    name: str
    needs_database: bool
    needs_broker: bool
    listens: Mapping[str, str] = field(default_factory=dict)
    asks: Mapping[str, str] = field(default_factory=dict)
    """Settings that others must have when it runs."""


SERVICES = {
    service.name: service
    for service in (
        Service("smtp-inbox", needs_database=False, needs_broker=True, listens={"INBOUND_SMTP_LISTEN": "relay://{address}"}),
        Service("json-inbox", needs_database=True, needs_broker=True, listens={"HTTP_LISTEN": "{address}"}),
        Service("router", needs_database=True, needs_broker=True),
        Service("smtp-sender", needs_database=False, needs_broker=True),
        Service("seal-sender", needs_database=False, needs_broker=True),
        Service("result-recorder", needs_database=True, needs_broker=True),
        Service("archiver", needs_database=True, needs_broker=False),
    )
}


OPTIONAL = {
    "webhook": Service("webhook", needs_database=True, needs_broker=True, asks={"RABBITMQ_WEBHOOK": "webhook"}),
}
"""Those that run only when ``SCALE`` asks for them: webhook=1. Their queues are in topology-NAME.json."""


def find_service(name: str) -> Service:
    """The service of this name."""
    known = SERVICES | OPTIONAL
    if name not in known:
        raise StackError(f"no service {name!r}: expected one of {', '.join(known)}")
    return known[name]


def find_given(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of our processes in an environment, and ``SCALE``."""
    names = {"SCALE"}
    for name in SERVICES | OPTIONAL:
        module = importlib.import_module(f"services.{name.replace('-', '_')}.settings")
        names |= {field.upper() for field in module.ServiceSettings.model_fields}
    return {name: value for name, value in environment.items() if name in names}


def parse_scale(text: str) -> dict[str, int]:
    """Copies per service from ``smtp-sender=2,router=2``."""
    scale: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, count = part.partition("=")
        if not count.isascii() or not count.isdigit() or not 0 <= int(count) <= 64:
            raise StackError(f"SCALE: {part!r}: expected SERVICE=COPIES with 0 to 64 copies, e.g. smtp-sender=2")
        scale[find_service(name).name] = int(count)
    return scale
