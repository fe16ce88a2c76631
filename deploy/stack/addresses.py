"""Which settings the stack gives to our processes, and which addresses it tells the user. Pure."""

import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from deploy.stack.places import HOST, ROOT, StackError
from deploy.stack.services import Service

STORAGE_FOLDER = "payloads"
JOURNAL_FOLDER = "journal"


def choose_settings(
    given: Mapping[str, str], own: Mapping[str, str], folder: Path, seal_port: int, services: Sequence[Service] = ()
) -> dict[str, str]:
    """Settings that all processes share. What is ``given`` (the caller's environment) wins over our ``own`` servers'
    addresses, and over what the ``services`` that run ask for. Where nobody gave a seal service, its address is a free port that a
    user may put one on."""
    asked = {name: value for service in services for name, value in service.asks.items()}
    chosen = {
        **asked,
        **own,
        "STORAGE_URL": f"dir://{folder / STORAGE_FOLDER}",
        "JOURNAL_DIR": str(folder / JOURNAL_FOLDER),
        "ACCEPTED_DIR": str(folder / "accepted"),
        "LOCALS_SNAPSHOT": str(folder / "locals.json"),
        "POOLS_SNAPSHOT": str(folder / "pools.json"),
        "ROUTER_SNAPSHOT": str(folder / "rules.json"),
        "STOPS_SNAPSHOT": str(folder / "stops"),
        "TOKENS_SNAPSHOT": str(folder / "tokens.json"),
        "WEBHOOK_SNAPSHOT": str(folder / "webhooks.json"),
        "OUTBOUND_SEAL_ADDR": f"http://{HOST}:{seal_port}",
    }
    names = {*chosen, "RABBITMQ_ADDRESS", "RABBITMQ_API", "DB_URI"}
    return {name: given.get(name) or chosen[name] for name in sorted(names) if given.get(name) or name in chosen}


def choose_listeners(service: Service, given: Mapping[str, str], port: int) -> dict[str, str]:
    """Where this service listens: setting → value."""
    return {name: given.get(name) or value.format(address=f"{HOST}:{port}") for name, value in service.listens.items()}


def choose_metrics(given: Mapping[str, str], port: int, taken: Collection[str]) -> str:
    """``METRICS_ADDR`` of a process: at ``port``, or the first that is not ``taken`` from the given address on."""
    base = given.get("METRICS_ADDR")
    if not base:
        return f"{HOST}:{port}"
    host, _, first = base.rpartition(":")
    if not first.isascii() or not first.isdigit():
        raise StackError(f"METRICS_ADDR: {base!r}: expected HOST:PORT")
    candidates = (f"{host or HOST}:{number}" for number in range(int(first), 65_536))
    return next(address for address in candidates if address not in taken)


def tell_listener(setting: str, value: str) -> dict[str, str]:
    """What a user is told of a listener: ``SMTP_INBOX_ADDRESS`` (host:port), ``HTTP_ADDRESS`` (http://host:port)."""
    first = value.split(",")[0].strip()
    place = urlsplit(first if "://" in first else f"//{first}").netloc
    if place.startswith(":"):
        place = HOST + place
    return {"SMTP_INBOX_ADDRESS": place} if setting == "INBOUND_SMTP_LISTEN" else {"HTTP_ADDRESS": f"http://{place}"}


def metrics_name(service: str) -> str:
    """The variable in ``env`` that lists the health and metrics addresses of a service's copies."""
    return "METRICS_" + service.upper().replace("-", "_")


def copy_names(service: str, copies: int) -> Sequence[str]:
    """What the copies of a service are called."""
    return [service] if copies == 1 else [f"{service}-{number}" for number in range(1, copies + 1)]


def render_shell(env: Mapping[str, str]) -> str:
    """The file ``env``: a ``NAME=value`` line each, then one that exports them, with ``mailwarren`` on the PATH."""
    lines = [f"{name}={shlex.quote(value)}" for name, value in env.items()]
    programs = shlex.quote(str(ROOT / ".venv" / "bin"))
    return "\n".join([*lines, f"PATH={programs}:$PATH", f"export PATH {' '.join(env)}", ""])
