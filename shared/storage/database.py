"""Postgres: settings, connections that notice a dead peer, migrations. psycopg 3; SQLAlchemy only where tables are made."""

import asyncio
import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import Field, field_validator

from shared.settings import Duration, Settings
from shared.trouble import BadSetting, Unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection as SQLAlchemyConnection

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
_MIGRATION_LOCK = 7_310_579_604_011
"""Key of the advisory lock under which one process at a time migrates."""
_STALE = 2.0
"""Seconds of rest after which a pooled connection is tried before use."""

NOT_MIGRATED = (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidCatalogName)
_OURS = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    errors.InsufficientPrivilege,
    *NOT_MIGRATED,
)


class DatabaseSettings(Settings):
    """Where Postgres is."""

    db_uri: str = Field(
        default="postgresql://mailwarren@localhost/mailwarren", description="postgresql://user:password@host:port/database"
    )
    db_connect_timeout: Duration = Field(default=timedelta(seconds=5), description="seconds to connect to Postgres")
    db_statement_timeout: Duration = Field(
        default=timedelta(seconds=30), description="seconds that one statement may take before Postgres counts as down"
    )
    db_pool_size: int = Field(default=4, ge=1, le=100, description="connections to Postgres that a process opens at most")

    @field_validator("db_uri")
    @classmethod
    def _postgresql(cls, value: str) -> str:
        check_uri(value)
        return value


def check_uri(db_uri: str) -> None:
    """Raises ValueError unless ``db_uri`` is a URI that libpq understands."""
    if not db_uri.startswith(("postgresql://", "postgres://")):
        raise ValueError("expected postgresql://user:password@host:port/database")
    try:
        conninfo_to_dict(db_uri)
    except psycopg.ProgrammingError as error:
        raise ValueError(f"expected postgresql://user:password@host:port/database: {_line(error)}") from None


def render_conninfo(db_uri: str, *, connect_timeout: float = 5, statement_timeout: float = 30, name: str = "") -> str:
    """libpq's connection string: the URI, and what makes a dead peer an error instead of a wait. The URI's own values win."""
    defaults: dict[str, str | int] = {
        "connect_timeout": max(2, round(connect_timeout)),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "application_name": name or "mailwarren",
        "options": f"-c jit=off -c statement_timeout={round(statement_timeout * 1000)} -c idle_in_transaction_session_timeout=60000",
    }
    given = conninfo_to_dict(db_uri)
    return make_conninfo(db_uri, **{key: value for key, value in defaults.items() if key not in given})


@asynccontextmanager
async def translating() -> AsyncIterator[None]:
    """Inside, psycopg's errors that mean "the database is down or not ready" become Unavailable. Others are bugs."""
    try:
        yield
    except NOT_MIGRATED as error:
        raise Unavailable(f"Postgres: {_line(error)} (has `mailwarren migrate` been run?)") from error
    except _OURS as error:
        raise Unavailable(f"Postgres: {_line(error)}") from error
    except TimeoutError as error:
        raise Unavailable("Postgres: no answer in time") from error


async def connect(settings: DatabaseSettings, *, name: str = "") -> Connection:
    """One connection, autocommit. Raises Unavailable."""
    patience = settings.db_connect_timeout.total_seconds()
    conninfo = render_conninfo(
        settings.db_uri,
        connect_timeout=patience,
        statement_timeout=settings.db_statement_timeout.total_seconds(),
        name=name,
    )
    async with translating(), asyncio.timeout(patience + 1):
        connection: Connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=3)
    return connection


class Database:
    """A few connections, opened when needed, tried before use, thrown away after an error."""

    def __init__(self, settings: DatabaseSettings, *, name: str = "") -> None:
        self._settings = settings
        self._name = name
        self._idle: list[tuple[float, Connection]] = []
        self._slots = asyncio.Semaphore(settings.db_pool_size)

    @asynccontextmanager
    async def connection(self, *, within: timedelta | None = None) -> AsyncIterator[Connection]:
        """A connection in autocommit mode, for at most ``within`` (default: the statement timeout and 5 s).

        Errors that mean "down" become Unavailable, time-out included: a frozen server does not obey its own statement timeout.
        """
        limit = within or self._settings.db_statement_timeout + timedelta(seconds=5)
        async with self._slots, translating():
            connection = await self._take()
            try:
                async with asyncio.timeout(limit.total_seconds()):
                    yield connection
            except BaseException:
                await connection.close()
                raise
            self._idle.append((time.monotonic(), connection))

    async def ping(self) -> None:
        """Raises Unavailable unless Postgres answers."""
        async with self.connection(within=timedelta(seconds=5)) as connection:
            await connection.execute("SELECT 1")

    async def close(self) -> None:
        """Close the connections at rest."""
        while self._idle:
            await self._idle.pop()[1].close()

    async def _take(self) -> Connection:
        while self._idle:
            used, connection = self._idle.pop()
            if connection.closed or _has_input(connection):
                await connection.close()
                continue
            if time.monotonic() - used < _STALE:
                return connection
            try:
                async with asyncio.timeout(2):
                    await connection.execute("SELECT 1")
            except (psycopg.Error, TimeoutError):
                await connection.close()
            else:
                return connection
        return await connect(self._settings, name=self._name)


def _has_input(connection: Connection) -> bool:
    """A connection at rest that has something to read: the server said goodbye (or something else that nobody waits for)."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def migrate(db_uri: str, *, check: bool = False) -> list[str]:
    """Bring the schema up to date; several processes may do so at once. Returns the revisions that were applied.

    ``check``: apply nothing, return what is pending. Raises BadSetting (the URI; a database newer than this code) or Unavailable.
    """
    # Only here: a service must not pay for the memory of SQLAlchemy and Alembic.
    from sqlalchemy import NullPool, create_engine, exc, text

    try:
        check_uri(db_uri)
    except ValueError as error:
        raise BadSetting(f"db-uri: {error}") from None
    conninfo = render_conninfo(db_uri, statement_timeout=0, name="mailwarren migrate")
    engine = create_engine("postgresql+psycopg://", poolclass=NullPool, creator=lambda: psycopg.connect(conninfo))
    try:
        with engine.begin() as connection:
            if not check:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            return _upgrade(connection, apply=not check)
    except (exc.OperationalError, psycopg.OperationalError) as error:
        raise Unavailable(f"Postgres: {_line(getattr(error, 'orig', None) or error)}") from None


def _upgrade(connection: "SQLAlchemyConnection", *, apply: bool) -> list[str]:
    """The revisions that the database lacks, oldest first; applied in the connection's transaction when asked to."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    current = MigrationContext.configure(connection).get_current_heads()
    if strange := [revision for revision in current if revision not in known]:
        raise BadSetting(f"the database was migrated by a newer mailwarren: revision {', '.join(strange)} is not known here")
    # One line of revisions, newest first: what stands before the current one is pending.
    pending = known[: known.index(current[0])] if current else known
    if pending and apply:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return pending[::-1]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
