"""Searches of mail, and counters of what became final."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# Every index costs the recorder. Those of failed mail alone are nearly free.
INDEXES = """
CREATE INDEX message_status_recipient_idx ON message_status (lower(recipient COLLATE "C"), updated_at);
CREATE INDEX message_status_destination_idx ON message_status (destination COLLATE "C", updated_at);
CREATE INDEX message_status_sender_idx ON message_status (lower(sender COLLATE "C"), updated_at);
CREATE INDEX message_status_failed_idx ON message_status (updated_at) WHERE status = 'failed';
CREATE INDEX message_status_failed_destination_idx ON message_status (destination COLLATE "C", updated_at) WHERE status = 'failed';
CREATE INDEX message_status_failed_sender_idx ON message_status (lower(sender COLLATE "C"), updated_at) WHERE status = 'failed';
CREATE INDEX message_status_class_idx ON message_status (class COLLATE "C", updated_at) WHERE class IS NOT NULL;
CREATE INDEX message_status_archive_updated_at_idx ON message_status_archive (updated_at);
CREATE INDEX message_status_archive_recipient_idx ON message_status_archive (lower(recipient COLLATE "C"), updated_at);
CREATE INDEX messages_created_at_idx ON messages (created_at);
CREATE INDEX messages_untried_idx ON messages (next_attempt_at) WHERE status IN ('accepted', 'routed') OR recipients_total > 1;
CREATE INDEX delivery_attempts_newest_idx ON delivery_attempts (created_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX delivery_attempts_newest_destination_idx ON delivery_attempts (destination COLLATE "C", created_at)
    WHERE next_attempt_at IS NOT NULL
"""

# Three levels, so that every question reads few rows. An update only counts when it changed the verdict, and then in the hour in which
# the mail was first counted. Recorders that count the same rows must wait for each other instead of deadlocking: so rows are taken in
# the order of the key, and changes have rows of their own, because one statement may insert and update, and both triggers fire.
COUNT = """
CREATE FUNCTION count_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO message_counts AS c (level, start, destination, class, status, changed, count, created_at, updated_at)
    WITH changes AS (
        {changes}
    ), hours AS (
        SELECT created_at - created_at % 3600 AS start, destination, coalesce(class, '') AS class, status, sum(n) AS n
        FROM changes GROUP BY 1, 2, 3, 4
    ), levels AS (
        SELECT 'hour' AS level, start, destination, class, status, n FROM hours
        UNION ALL
        SELECT 'day', start - start % 86400, destination, class, status, sum(n) FROM hours GROUP BY 2, 3, 4, 5
        UNION ALL
        SELECT 'total', start, '', class, status, sum(n) FROM hours GROUP BY 2, 4, 5
    )
    SELECT level, start, destination, class, status, {changed}, n, {now}, {now} FROM levels WHERE n <> 0
    ORDER BY level, start, destination COLLATE "C", class COLLATE "C", status
    ON CONFLICT (level, start, destination, class, status, changed) DO UPDATE SET
        count = c.count + excluded.count, updated_at = excluded.updated_at;
    RETURN NULL;
END $$
"""
NOW = "extract(epoch FROM now())::bigint"
CHANGES = {
    "inserted": "SELECT created_at, destination, class, status, 1 AS n FROM after",
    "updated": """
        SELECT b.created_at, b.destination, side.class, side.status, side.n FROM before b JOIN after a USING (id),
            LATERAL (VALUES (b.class, b.status, -1), (a.class, a.status, 1)) AS side (class, status, n)
        WHERE (b.status, b.class) IS DISTINCT FROM (a.status, a.class)""",
}
TRIGGERS = {
    "inserted": "INSERT ON message_status REFERENCING NEW TABLE AS after",
    "updated": "UPDATE ON message_status REFERENCING OLD TABLE AS before NEW TABLE AS after",
}

FIRST_COUNT = """
INSERT INTO message_counts (level, start, destination, class, status, changed, count, created_at, updated_at)
WITH hours AS (
    SELECT created_at - created_at % 3600 AS start, destination, coalesce(class, '') AS class, status, count(*) AS n
    FROM message_status GROUP BY 1, 2, 3, 4
), levels AS (
    SELECT 'hour' AS level, start, destination, class, status, n FROM hours
    UNION ALL
    SELECT 'day', start - start % 86400, destination, class, status, sum(n) FROM hours GROUP BY 2, 3, 4, 5
    UNION ALL
    SELECT 'total', start, '', class, status, sum(n) FROM hours GROUP BY 2, 4, 5
)
SELECT level, start, destination, class, status, false, n, moment, moment FROM levels, CAST(extract(epoch FROM now()) AS bigint) AS moment
ORDER BY level, start, destination COLLATE "C"
"""
"""In the order in which they are read together."""


# A new column needs the tables for us alone. Who locks verdicts for reading may be about to write attempts (a recorder), which we hold:
# so we do not wait for them, but let go of everything and begin again. A dump that reads for hours stops nobody but us.
LOCK = """
DO $$ BEGIN
    LOOP
        BEGIN
            LOCK TABLE messages, delivery_attempts, message_status, message_status_archive IN SHARE ROW EXCLUSIVE MODE;
            SET LOCAL lock_timeout = '300ms';
            LOCK TABLE message_status, message_status_archive IN ACCESS EXCLUSIVE MODE;
            SET LOCAL lock_timeout TO DEFAULT;
            EXIT;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            PERFORM pg_sleep(0.5);
        END;
    END LOOP;
END $$
"""


def upgrade() -> None:
    """Add a column, indexes, a table and its triggers; nothing is dropped or changed.

    Writing to the tables, and reading verdicts, waits until all is there.
    """
    # From here on no row comes in that the first count below would miss. All that gets an index, too, and in the order in which a
    # recorder writes: with one of them locked later, it and we would wait for each other.
    op.execute(LOCK)
    for table in ("message_status", "message_status_archive"):
        comment = "unix seconds; null = recorded before there was this column"
        op.add_column(table, sa.Column("accepted_at", sa.BigInteger, comment=comment))
    _counts()
    for statement in INDEXES.split(";"):
        op.execute(statement)


def _counts() -> None:
    op.create_table(
        "message_counts",
        sa.Column(
            "level", sa.Text(collation="C"), nullable=False, comment="hour, day; total: an hour, all destinations together"
        ),
        sa.Column("start", sa.BigInteger, nullable=False, comment="unix seconds; beginning of the hour or day (UTC)"),
        sa.Column("destination", sa.Text(collation="C"), nullable=False, comment="empty in level total"),
        sa.Column("class", sa.Text(collation="C"), nullable=False, comment="our bounce class; empty = none"),
        sa.Column("status", sa.Text(collation="C"), nullable=False, comment="delivered or failed"),
        sa.Column("changed", sa.Boolean, nullable=False, comment="true: what later changes of verdicts add and take away"),
        sa.Column("count", sa.BigInteger, nullable=False, comment="mails that became final in it"),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="unix seconds"),
        sa.Column("updated_at", sa.BigInteger, nullable=False, comment="unix seconds"),
        sa.PrimaryKeyConstraint("level", "start", "destination", "class", "status", "changed", name="message_counts_pkey"),
        sa.CheckConstraint("level IN ('hour', 'day', 'total')", name="message_counts_level_check"),
        # Room beside the rows that are counted up all the time.
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "message_counts_destination_idx", "message_counts", ["destination", "start"], postgresql_where=sa.text("level = 'hour'")
    )
    for name, changes in CHANGES.items():
        op.execute(COUNT.format(name=name, changes=changes, changed=name == "updated", now=NOW))
        op.execute(
            f"CREATE TRIGGER message_status_{name} AFTER {TRIGGERS[name]} FOR EACH STATEMENT EXECUTE FUNCTION count_{name}()"
        )
    op.execute(FIRST_COUNT)
