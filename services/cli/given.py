"""What is given to every command that talks to a server: options over environment over file, as for the processes."""

import asyncio
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from shared.settings import Settings, load
from shared.trouble import BadSetting

T = TypeVar("T")
S = TypeVar("S", bound=Settings)

Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings from a TOML file.")]
Address = Annotated[
    str | None, typer.Option("--rabbitmq-address", metavar="URL", help="amqp://user:password@host/vhost; else RABBITMQ_ADDRESS.")
]
Api = Annotated[str | None, typer.Option("--rabbitmq-api", metavar="URL", help="Management API; else RABBITMQ_API.")]
DbUri = Annotated[str | None, typer.Option("--db-uri", metavar="URI", help="postgresql://…; else DB_URI.")]


def load_given(cls: type[S], config: Path | None, **options: Any) -> S:
    """The settings ``cls``; options that are None were not given. Raises BadSetting."""
    given = {name.replace("_", "-"): str(value) for name, value in options.items() if value is not None}
    return load(cls, config=config, options=given).settings


def wait_for(awaitable: Awaitable[T]) -> T:
    """Run a coroutine to its end."""

    async def run() -> T:
        return await awaitable

    return asyncio.run(run())


def read_text(path: Path | None, expected: str) -> tuple[str, str]:
    """(text, name for messages) of a file, or of standard input for None and ``-``. Raises BadSetting."""
    content, source = read_bytes(path, expected)
    try:
        return content.decode("utf-8-sig"), source
    except UnicodeDecodeError as error:
        raise BadSetting(f"{source}: byte {error.start + 1}: not UTF-8") from None


def read_bytes(path: Path | None, expected: str) -> tuple[bytes, str]:
    """As ``read_text``, bytes. A terminal on standard input is no file: ``expected`` says what is wanted."""
    if path is None or str(path) == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise BadSetting(f"nothing on standard input: expected {expected}")
        return sys.stdin.buffer.read(), "standard input"
    try:
        return path.read_bytes(), str(path)
    except OSError as error:
        raise BadSetting(f"{path}: {error.strerror}") from None
