"""mailwarren run SERVICE: one process of the pipeline, or its manual page, or its settings, or several copies of it.

mailwarren run SERVICE [--workers N] [--config FILE] [--SETTING VALUE …]
mailwarren run SERVICE --settings     every setting: value, where it comes from, meaning
mailwarren run SERVICE --help         the process's manual page

A setting is given on the command line (--rabbitmq-qos 50), in the environment (RABBITMQ_QOS=50) or in a TOML file
(rabbitmq-qos = 50, --config FILE): the command line wins over the environment, the environment over the file.

  mailwarren run smtp-sender
  mailwarren run smtp-sender --workers 4 --retry-interval 60,300,3600
  mailwarren run smtp-inbox --config /etc/mailwarren.toml --inbound-smtp-listen relay://0.0.0.0:25
"""

import importlib
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from shared.settings import Loaded, Settings, load, read_names, render_table, spell
from shared.trouble import BadSetting

SERVICES = ("smtp-inbox", "json-inbox", "router", "smtp-sender", "seal-sender", "result-recorder", "archiver", "webhook")
"""The processes, in the order in which a mail meets them."""
MAX_WORKERS = 256


@dataclass(slots=True)
class Request:
    """What stands behind ``run``."""

    service: str = ""
    workers: int | None = None
    config: Path | None = None
    wants_help: bool = False
    wants_settings: bool = False
    options: dict[str, str] = field(default_factory=dict)
    """Setting (outside spelling) → text."""


def check_names(config: Path | None) -> None:
    """One file may serve all processes, so each takes from it what is its own. A name that none of them knows is a typing error.

    Raises BadSetting.
    """
    names = read_names(config) if config is not None else []
    known: set[str] = set()
    for service in SERVICES if names else ():
        known |= set(find_settings(service).model_fields)
    if unknown := [name for name in names if name.replace("-", "_") not in known]:
        raise BadSetting(f"--config {config}: unknown setting {unknown[0]!r}; 'mailwarren run SERVICE --settings' lists them all")


def run(arguments: Sequence[str]) -> int:
    """Run a process until it ends; its exit code. Raises BadSetting."""
    request = parse_arguments(arguments, find_flags)
    if not request.service:
        print(f"{(__doc__ or '').strip()}\n\nSERVICE is one of\n{list_services()}")
        return 0
    if request.wants_help:
        print(render_manual(request.service))
        return 0
    check_names(request.config)
    if request.wants_settings:
        print(render_settings(request), end="")
        return 0
    if request.workers is not None:
        from services.cli.workers import run_workers

        settings = load(find_settings(request.service), config=request.config, options=request.options).settings
        return run_workers(request.service, request.workers, settings, _repeat(request))
    module = importlib.import_module(f"services.{_spell_inside(request.service)}.__main__")
    main = cast(Callable[[Mapping[str, str], Path | None], int], module.main)
    return main(request.options, request.config)


def parse_arguments(arguments: Sequence[str], flags: Callable[[str], frozenset[str]]) -> Request:
    """Pure but for ``flags``: service → its settings that are true when no value follows. Raises BadSetting."""
    request = Request()
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word in ("--help", "-h"):
            request.wants_help = True
        elif word == "--settings":
            request.wants_settings = True
        elif word.startswith("--"):
            _take_option(request, word[2:], words, flags)
        elif word.startswith("-"):
            raise BadSetting(f"unknown option {word!r}: options are written --setting value")
        elif request.service:
            raise BadSetting(f"{word!r}: expected one SERVICE, and every setting as --setting value")
        else:
            request.service = check_service(word)
    if not request.service and not (request.wants_help and not request.options):
        raise BadSetting(f"SERVICE is missing: expected one of {', '.join(SERVICES)}")
    return request


def check_service(name: str) -> str:
    """``name``, outside spelling. Raises BadSetting that lists what there is."""
    if name.replace("_", "-") not in SERVICES:
        raise BadSetting(f"no service {name!r}: expected one of {', '.join(SERVICES)}")
    return name.replace("_", "-")


def find_settings(service: str) -> type[Settings]:
    """The class with the settings of a process."""
    module = importlib.import_module(f"services.{_spell_inside(service)}.settings")
    return cast(type[Settings], module.ServiceSettings)


def find_flags(service: str) -> frozenset[str]:
    """The settings of a process that are true or false."""
    fields = find_settings(service).model_fields
    return frozenset(spell(name) for name, info in fields.items() if info.annotation is bool)


def render_manual(service: str) -> str:
    """The process's manual page and its settings."""
    manual = importlib.import_module(f"services.{_spell_inside(service)}").__doc__ or service
    lines = [manual.strip(), "", "Settings (default, meaning); mailwarren run SERVICE --settings shows their values:"]
    cls = find_settings(service)
    # Built-in values alone: a manual page says the same everywhere.
    for name, value, _, meaning in render_table(Loaded(cls.model_construct(), dict.fromkeys(cls.model_fields, ""))):
        lines.append(f"  --{name} {value}".rstrip())
        lines += textwrap.wrap(meaning, 100, initial_indent="        ", subsequent_indent="        ")
    return "\n".join(lines)


def render_settings(request: Request) -> str:
    """A table of every setting: name, value, origin, meaning. Secrets are masked."""
    rows = render_table(load(find_settings(request.service), config=request.config, options=request.options))
    heads = ("setting", "value", "from", "meaning")
    widths = [min(max(len(row[i]) for row in [heads, *rows]), limit) for i, limit in enumerate((40, 40, 12))]
    room = max(shutil.get_terminal_size((160, 24)).columns - sum(widths) - 6, 40)
    text = ""
    for name, value, origin, meaning in [heads, *rows]:
        # A value that is too long for its column pushes the rest of its row aside.
        left = f"{name:<{widths[0]}}  {value:<{widths[1]}}  {origin:<{widths[2]}}  "
        parts = textwrap.wrap(meaning, max(room - (len(left) - sum(widths) - 6), 30)) or [""]
        text += (left + parts[0]).rstrip() + "\n"
        text += "".join(" " * (sum(widths) + 6) + part + "\n" for part in parts[1:])
    return text


def list_services() -> str:
    """A line per process: name and what it is for."""
    lines = []
    for service in SERVICES:
        try:
            manual = importlib.import_module(f"services.{_spell_inside(service)}").__doc__ or ""
        except ModuleNotFoundError:
            manual = ""
        lines.append(f"  {service:<16} {manual.partition(chr(10))[0].partition(': ')[2]}".rstrip())
    return "\n".join(lines)


def _take_option(request: Request, text: str, words: list[str], flags: Callable[[str], frozenset[str]]) -> None:
    name, separator, value = text.partition("=")
    if not separator:
        if words and not words[0].startswith("--"):
            value = words.pop(0)
        elif request.service and name in flags(request.service):
            value = "true"
        else:
            raise BadSetting(f"--{name}: expected a value behind it")
    if name == "config":
        request.config = Path(value)
    elif name == "workers":
        if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= MAX_WORKERS:
            raise BadSetting(f"--workers: {value!r}: expected a number from 1 to {MAX_WORKERS}")
        request.workers = int(value)
    elif name in request.options:
        raise BadSetting(f"--{name} is given twice")
    else:
        request.options[name] = value


def _repeat(request: Request) -> list[str]:
    """The arguments for one worker of this request."""
    config = ["--config", str(request.config)] if request.config else []
    return [*config, *(f"--{name}={value}" for name, value in request.options.items())]


def _spell_inside(service: str) -> str:
    return service.replace("-", "_")


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
