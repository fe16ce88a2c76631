"""Logs: one JSON line per event on stderr, readable text on a terminal. No content of mails, no secrets.

The vocabulary is shared: ``id``, ``attempt``, ``recipient``, ``state``, ``result``, ``code``, ``queue``, ``reason``.
"""

import logging
import sys
from typing import Any

import orjson
import structlog


def get_logger(**context: Any) -> structlog.stdlib.BoundLogger:
    """The logger; ``context`` is bound to every line."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(**context)
    return logger


def configure(service: str, level: str) -> None:
    """Set up structlog and route the standard library's logging (uvicorn, aiormq …) through it. Once per process."""
    severity = getattr(logging, level.upper())
    shared_chain: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(service),
    ]
    renderer: structlog.typing.Processor
    if sys.stderr.isatty():  # noqa: SIM108 - two kinds of renderer: the ternary's type would be their base
        renderer = structlog.dev.ConsoleRenderer()
    else:
        renderer = structlog.processors.JSONRenderer(serializer=_to_json)
    structlog.configure(
        processors=[*shared_chain, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(severity),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared_chain, structlog.processors.format_exc_info],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(severity, logging.WARNING) if severity > logging.DEBUG else severity)


def _named(service: str) -> structlog.typing.Processor:
    def add(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    return add


def _to_json(event: dict[str, Any], **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
