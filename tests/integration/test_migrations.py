"""The schema: made from nothing, by many at once, and as ``shared.storage.tables`` says."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import NullPool, create_engine

from shared.storage.database import MIGRATIONS, migrate
from shared.storage.tables import metadata
from shared.trouble import BadSetting, Unavailable

REVISIONS = [path.name[1:5] for path in sorted((MIGRATIONS / "versions").glob("r[0-9]*.py"))]


def test_check_tells_what_is_pending_and_applies_nothing(empty_database: str) -> None:
    assert migrate(empty_database, check=True) == REVISIONS
    with psycopg.connect(empty_database) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
    assert migrate(empty_database) == REVISIONS
    assert migrate(empty_database) == []
    assert migrate(empty_database, check=True) == []


def test_many_may_migrate_at_once(empty_database: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        applied = list(pool.map(migrate, [empty_database] * 6))
    assert sorted(applied) == [[], [], [], [], [], REVISIONS]


def test_the_tables_are_those_of_the_metadata(database: str) -> None:
    engine = create_engine("postgresql+psycopg://", poolclass=NullPool, creator=lambda: psycopg.connect(database))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        differences: list[Any] = compare_metadata(context, metadata)
        checks = {
            (row[0], row[1])
            for row in connection.exec_driver_sql(
                "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0"
            )
        }
    assert differences == []
    assert checks == {
        ("messages", "messages_status_check"),
        ("message_status", "message_status_status_check"),
        ("message_counts", "message_counts_level_check"),
    }


def test_every_table_has_its_times(database: str) -> None:
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            """
            SELECT t.tablename FROM pg_tables t WHERE schemaname = 'public' AND tablename <> 'alembic_version'
              AND 2 <> (
                SELECT count(*) FROM information_schema.columns c WHERE c.table_name = t.tablename
                  AND c.column_name IN ('created_at', 'updated_at') AND c.data_type = 'bigint' AND c.is_nullable = 'NO'
            )
            """
        ).fetchall()
        total = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert rows == []
    assert total is not None
    assert total[0] >= 8


def test_a_newer_database_is_told(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BadSetting, match="newer mailwarren"):
        migrate(database)


def test_what_is_no_database_is_told() -> None:
    with pytest.raises(BadSetting, match="db-uri"):
        migrate("mysql://x/y")
    with pytest.raises(Unavailable, match="Postgres"):
        migrate("postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=2")
