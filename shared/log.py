"""Logs: one JSON line per event on stderr, readable text on a terminal. No content of mails, no secrets.

The vocabulary is shared: ``id``, ``attempt``, ``recipient``, ``state``, ``result``, ``code``, ``queue``, ``reason``.
"""

import asyncio
import atexit
import logging
import re
import sys
from typing import Any, TextIO

import orjson
import structlog

GATHER_TIME = 0.05
"""Seconds."""


def get_logger(**context: Any) -> structlog.stdlib.BoundLogger:
    """The logger; ``context`` is bound to every line."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(**context)
    return logger


class Lines:
    """Writes lines; those that tell nothing bad are gathered for a moment: a write per line costs as much as a tenth of a mail.

    A process that is killed loses the lines of its last GATHER_TIME. Not for several threads: the libraries' own lines take another way.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._gathered: list[str] = []

    def gather(self, line: str) -> None:
        """Write within GATHER_TIME; at once when no event loop runs."""
        self._gathered.append(line)
        if len(self._gathered) > 1:
            return
        try:
            asyncio.get_running_loop().call_later(GATHER_TIME, self.write_out)
        except RuntimeError:
            self.write_out()

    def write_now(self, line: str) -> None:
        """Write at once, after what was gathered."""
        self._gathered.append(line)
        self.write_out()

    def write_out(self) -> None:
        """Write what was gathered."""
        if self._gathered:
            text = "\n".join(self._gathered) + "\n"
            self._gathered.clear()
            self._stream.write(text)
            self._stream.flush()

    msg = debug = info = gather
    warning = warn = error = err = critical = fatal = failure = exception = log = write_now


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
    lines = Lines(sys.stderr)
    atexit.register(lines.write_out)
    structlog.configure(
        processors=[*shared_chain, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(severity),
        logger_factory=lambda *_: lines,
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
    root.setLevel(max(severity, logging.WARNING))
    # It tells of lost connections with tracebacks (we tell it in a line), and at debug it prints whole frames, passwords and all.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)


def _named(service: str) -> structlog.typing.Processor:
    def add(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    return add


# What orjson leaves as it is although a terminal obeys it, or a reader takes it for the end of a line.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029]")


def _to_json(event: dict[str, Any], **_: Any) -> str:
    text = orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    if text.isascii() and "\x7f" not in text:
        return text
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
