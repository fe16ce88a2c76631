"""The page of all settings: ``python -m services.cli.settings_page > docs/settings.md``. Made from the settings themselves."""

import importlib
from collections.abc import Sequence

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from shared.settings import Settings, show_value, spell

SERVICES = ("smtp-inbox", "json-inbox", "router", "smtp-sender", "seal-sender", "result-recorder", "archiver", "webhook")
HEAD = """# Settings

Made by `python -m services.cli.settings_page`; do not edit.

Built-in < file (`--config`, TOML) < environment < command line. `rabbitmq-address` in a file or as `--rabbitmq-address` is
`RABBITMQ_ADDRESS` in the environment. Durations are seconds (`600`) or Go's form (`1h30m`); lists are written with commas.
`mailwarren run SERVICE --settings` prints the values in force and where each comes from.
"""


def render_page() -> str:
    """The whole page: settings that several processes share come first, with the processes that have them."""
    classes = {service: _settings_of(service) for service in SERVICES}
    users: dict[str, list[str]] = {}
    for service, cls in classes.items():
        for name in cls.model_fields:
            users.setdefault(name, []).append(service)
    shared_by_all = [name for name, having in users.items() if len(having) == len(SERVICES)]
    parts = [HEAD, _table("Every process", [(name, *_first(name, classes)) for name in sorted(shared_by_all)])]
    several = sorted(name for name, having in users.items() if 1 < len(having) < len(SERVICES))
    rows = [(name, *_first(name, classes), ", ".join(users[name])) for name in several]
    parts.append(_table("Several processes", rows))
    for service, cls in classes.items():
        own = sorted(name for name in cls.model_fields if users[name] == [service])
        differs = sorted(name for name in cls.model_fields if len(users[name]) > 1 and _differs(name, cls, classes))
        fields = [(name, cls.model_fields[name]) for name in (*own, *differs)]
        parts.append(_table(service, [(name, _default(info), info.description or "") for name, info in fields]))
    return "\n".join(parts)


def _settings_of(service: str) -> type[Settings]:
    module = importlib.import_module(f"services.{service.replace('-', '_')}.settings")
    cls: type[Settings] = module.ServiceSettings
    return cls


def _first(name: str, classes: dict[str, type[Settings]]) -> tuple[str, str]:
    info = next(cls.model_fields[name] for cls in classes.values() if name in cls.model_fields)
    values = {_default(cls.model_fields[name]) for cls in classes.values() if name in cls.model_fields}
    return values.pop() if len(values) == 1 else "per process, see below", info.description or ""


def _differs(name: str, cls: type[Settings], classes: dict[str, type[Settings]]) -> bool:
    return len({_default(other.model_fields[name]) for other in classes.values() if name in other.model_fields}) > 1


def _default(info: FieldInfo) -> str:
    if info.default_factory is not None or info.default is PydanticUndefined:
        return "of this host"
    value = show_value(info.default)
    return f"`{value}`" if value else ""


def _table(title: str, rows: Sequence[tuple[str, ...]]) -> str:
    has_users = bool(rows) and len(rows[0]) == 4
    lines = [f"## {title}", "", f"| setting | default | meaning |{' processes |' if has_users else ''}"]
    lines.append("|---|---|---|---|" if has_users else "|---|---|---|")
    for name, *cells in rows:
        escaped = " | ".join(cell.replace("|", "\\|") for cell in cells)
        lines.append(f"| `{spell(name)}` | {escaped} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(render_page(), end="")
