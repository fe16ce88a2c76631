"""Settings: built-in < file (TOML) < environment < command line, each value with its origin.

A setting is a field of a pydantic model. Its name is MailerQ's or mxengine's: ``rabbitmq-address`` in a file and on the command line,
``RABBITMQ_ADDRESS`` in the environment, ``rabbitmq_address`` in Python.
"""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, SettingsConfigDict

from shared.mail.duration import parse_duration
from shared.trouble import BadSetting


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _split_pairs(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in _split(value)]
    names = [name.strip() for name, _, _ in pairs]
    if not all(separator and name for name, (_, separator, _) in zip(names, pairs, strict=True)) or len(set(names)) < len(names):
        raise ValueError("expected NAME=VALUE,NAME=VALUE, each name once")
    return {name: text.strip() for name, (_, _, text) in zip(names, pairs, strict=True)}


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str | int | float) else value


Strings = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""A list written with commas: ``a,b``."""
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(_split_pairs)]
"""Names and values written with commas, ``a=x,b=y``; a table in a file."""
Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""Seconds (``30``) or Go's spelling (``1h30m``)."""
Durations = Annotated[tuple[Duration, ...], NoDecode, BeforeValidator(_split)]
"""Durations with commas: ``600,600,1800``."""
_STANDARD = "environment"
"""In a field: a variable of another name that means the same."""


class Settings(BaseSettings):
    """What every set of settings has in common; see the module's docstring for names and precedence."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    metrics_addr: str = Field(
        default="127.0.0.1:9100",
        description="host:port for /metrics, /liveness and /readiness; worker i listens on port + i; empty = off",
    )
    log_level: str = Field(default="info", description="debug, info, warning or error", pattern="^(debug|info|warning|error)$")
    otlp_endpoint: str = Field(
        default="",
        description="collector of traces (OTLP over HTTP), http[s]://host[:port][/path]; OTEL_EXPORTER_OTLP_ENDPOINT does as well; "
        "empty = no tracing",
        json_schema_extra={_STANDARD: "OTEL_EXPORTER_OTLP_ENDPOINT"},
    )
    trace_sample: float = Field(
        default=1.0, ge=0, le=1, description="part of the mail that is traced, 0 to 1; mail that comes with a trace follows that"
    )
    drain_timeout: Duration = Field(
        default=timedelta(seconds=25), description="how long work in hand may take after SIGTERM, seconds"
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _http(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_right = False
        if value and (not is_right or parts.username is not None or parts.query or parts.fragment):
            raise ValueError("expected http[s]://host[:port][/path]")
        return value


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[S]):
    """Settings with the origin of every value: ``built-in``, ``file``, ``environment`` or ``command line``."""

    settings: S
    origins: Mapping[str, str]


def load(cls: type[S], *, config: Path | None = None, options: Mapping[str, str] | None = None) -> Loaded[S]:
    """Merge the four sources for ``cls``. Raises BadSetting that names the setting, the value and what was expected."""
    sources = {
        "file": _from_file(cls, config),
        "environment": _from_standard(cls) | EnvSettingsSource(cls)(),
        "command line": _known(cls, options or {}, "command line"),
    }
    merged: dict[str, Any] = {}
    origins = dict.fromkeys(cls.model_fields, "built-in")
    for origin, values in sources.items():
        merged |= values
        origins |= dict.fromkeys(values, origin)
    try:
        settings = cls.model_validate(merged)
    except ValidationError as error:
        raise BadSetting(_explain(cls, error, origins)) from None
    return Loaded(settings, origins)


def spell(field: str) -> str:
    """The outside spelling of a field: ``rabbitmq_address`` → ``rabbitmq-address``."""
    return field.replace("_", "-")


def render_table(loaded: Loaded[Any]) -> list[tuple[str, str, str, str]]:
    """Rows (name, value, origin, meaning) for ``--settings``; secrets are masked."""
    rows = []
    for field, info in type(loaded.settings).model_fields.items():
        value = getattr(loaded.settings, field)
        rows.append((spell(field), show_value(value), loaded.origins[field], info.description or ""))
    return rows


def show_value(value: Any) -> str:
    """A setting's value as it is written outside Python; a secret is masked."""
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    if isinstance(value, tuple):
        return ",".join(show_value(item) for item in value)
    if isinstance(value, dict):
        return ",".join(f"{name}={show_value(item)}" for name, item in value.items())
    return "" if value is None else mask_url(str(value))


def mask_url(text: str) -> str:
    """Hide the password of every ``scheme://user:password@host`` in the text."""
    parts = []
    for url in text.split(","):
        scheme, sep, rest = url.partition("://")
        if sep and "@" in rest:
            userinfo, _, host = rest.rpartition("@")
            rest = f"{userinfo.partition(':')[0]}:********@{host}" if ":" in userinfo else rest
        parts.append(scheme + sep + rest)
    return ",".join(parts)


def read_names(config: Path) -> list[str]:
    """The names in a file of settings, as they are written there. Raises BadSetting."""
    return list(_read(config))


def _read(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text())
    except OSError as error:
        raise BadSetting(f"--config {config}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"--config {config}: {error}") from None


def _from_file(cls: type[Settings], config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    values = _read(config)
    # One file may serve all processes: settings of another process are no mistake here.
    return {name.replace("-", "_"): value for name, value in values.items() if name.replace("-", "_") in cls.model_fields}


def _from_standard(cls: type[Settings]) -> dict[str, Any]:
    """Values under the names that others have given to the same setting; ours come first."""
    values = {}
    for field, info in cls.model_fields.items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and (value := os.environ.get(str(extra.get(_STANDARD)))):
            values[field] = value
    return values


def _known(cls: type[Settings], options: Mapping[str, str], origin: str) -> dict[str, Any]:
    known = {}
    for name, value in options.items():
        field = name.replace("-", "_")
        if field not in cls.model_fields:
            raise BadSetting(f"{origin}: unknown setting --{name}; 'mailwarren run SERVICE --settings' lists them all")
        known[field] = value
    return known


def _explain(cls: type[Settings], error: ValidationError, origins: Mapping[str, str]) -> str:
    first: Any = error.errors()[0]
    path: Sequence[Any] = first["loc"] or ("settings",)
    field = str(path[0])
    shown = "********" if _is_secret(cls, field) else repr(_mask(first["input"]))
    return f"{spell(field)}: {shown} (from {origins.get(field, 'built-in')}): {first['msg'].removeprefix('Value error, ')}"


def _is_secret(cls: type[Settings], field: str) -> bool:
    return field in cls.model_fields and cls.model_fields[field].annotation is SecretStr


def _mask(value: Any) -> Any:
    """A wrong value is shown; what may be a password in it (``user:password@``) is not."""
    return re.sub(r":[^:@/]+@", ":********@", mask_url(value)) if isinstance(value, str) else value
