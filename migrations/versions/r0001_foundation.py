"""The tables that the whole pipeline needs."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    """Make everything; nothing is dropped or changed."""
    _messages()
    _delivery_attempts()
    _message_status()
    _message_status_archive()
    _delivery_configurations()
    _bookkeeping()


def _times() -> tuple[sa.Column[int], sa.Column[int]]:
    return (
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="unix seconds"),
        sa.Column("updated_at", sa.BigInteger, nullable=False, comment="unix seconds"),
    )


def _messages() -> None:
    op.create_table(
        "messages",
        sa.Column("transaction", sa.Text, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False, comment="Message-ID header, else ours; not unique"),
        sa.Column("message_type", sa.Text, nullable=False, comment="mail or report (multipart/report)"),
        sa.Column("sender", sa.Text, nullable=False, comment="reverse-path; empty = null sender"),
        sa.Column("recipients", JSONB, nullable=False, comment="{id: {recipient, message_id, datafile}} of those seen so far"),
        sa.Column("recipients_total", sa.Integer, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False, comment="smtp, json or amqp"),
        sa.Column("status", sa.Text, nullable=False, comment="accepted, routed, deferred or final"),
        sa.Column("return_path", sa.Text, nullable=False),
        sa.Column("datafile", sa.Text, comment="key in the message store; null = the content rides in the message"),
        sa.Column("strategy", sa.Text, comment="delivery strategy asked for"),
        sa.Column("ids", ARRAY(sa.Text), nullable=False, comment="every id and message-id of its recipients, to find it by"),
        sa.Column("keepmime", sa.Boolean, nullable=False, comment="the payload outlives the mail"),
        sa.Column("next_attempt_at", sa.BigInteger, nullable=False, comment="unix seconds; when the first attempt is due"),
        *_times(),
        sa.PrimaryKeyConstraint("transaction", name="messages_pkey"),
        sa.CheckConstraint("status IN ('accepted', 'routed', 'deferred', 'final')", name="messages_status_check"),
    )
    op.create_index("messages_ids_idx", "messages", ["ids"], postgresql_using="gin")
    op.create_index("messages_datafile_idx", "messages", ["datafile"], postgresql_where=sa.text("datafile IS NOT NULL"))


def _delivery_attempts() -> None:
    op.create_table(
        "delivery_attempts",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False, comment="from 1"),
        sa.Column("state", sa.Text),
        sa.Column("result", sa.Text),
        sa.Column("code", sa.Integer),
        sa.Column("status", sa.Text, comment="enhanced status code, RFC 3463"),
        sa.Column("description", sa.Text),
        sa.Column("class", sa.Text, comment="our bounce class"),
        sa.Column("mta", sa.Text),
        sa.Column("from", sa.Text, comment="local address"),
        sa.Column("to", sa.Text, comment="remote address"),
        sa.Column("time", sa.BigInteger, nullable=False, comment="unix seconds"),
        sa.Column("destination", sa.Text, nullable=False, comment="domain of the recipient"),
        sa.Column("next_attempt_at", sa.BigInteger, comment="unix seconds; only on the newest attempt of a mail"),
        sa.Column("report", JSONB, nullable=False, comment="the whole attempt as on the wire"),
        *_times(),
        sa.PrimaryKeyConstraint("id", "attempt", name="delivery_attempts_pkey"),
    )
    op.create_index(
        "delivery_attempts_next_attempt_at_idx",
        "delivery_attempts",
        ["next_attempt_at"],
        postgresql_where=sa.text("next_attempt_at IS NOT NULL"),
    )


def _status_columns() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("transaction", sa.Text, nullable=False),
        sa.Column("recipients_total", sa.Integer, nullable=False),
        sa.Column("message_id", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("delivery_strategy", sa.Text),
        sa.Column("status", sa.Text, nullable=False, comment="delivered or failed"),
        sa.Column("state", sa.Text),
        sa.Column("code", sa.Integer),
        sa.Column("class", sa.Text),
        sa.Column("destination", sa.Text, nullable=False),
        sa.Column("results", JSONB, nullable=False, comment="every attempt as on the wire, oldest first"),
        *_times(),
    )


def _message_status() -> None:
    op.create_table(
        "message_status",
        *_status_columns(),
        sa.PrimaryKeyConstraint("id", name="message_status_pkey"),
        sa.CheckConstraint("status IN ('delivered', 'failed')", name="message_status_status_check"),
    )
    op.create_index(
        "message_status_message_id_idx", "message_status", ["message_id"], postgresql_where=sa.text("message_id <> id")
    )
    op.create_index(
        "message_status_transaction_idx",
        "message_status",
        ["transaction"],
        postgresql_where=sa.text("recipients_total > 1"),
    )
    op.create_index("message_status_updated_at_idx", "message_status", ["updated_at"])


def _message_status_archive() -> None:
    # No default partition: the archiver makes the months ahead, and a default one would forbid quick dropping and adding.
    op.create_table(
        "message_status_archive",
        *_status_columns(),
        sa.Column("archived_at", sa.BigInteger, nullable=False, comment="unix seconds; retention counts from here"),
        sa.PrimaryKeyConstraint("id", "archived_at", name="message_status_archive_pkey"),
        postgresql_partition_by="RANGE (archived_at)",
    )
    op.create_index(
        "message_status_archive_message_id_idx",
        "message_status_archive",
        ["message_id"],
        postgresql_where=sa.text("message_id <> id"),
    )
    op.create_index("message_status_archive_archived_at_idx", "message_status_archive", ["archived_at"], postgresql_using="brin")


def _delivery_configurations() -> None:
    op.create_table(
        "delivery_configurations",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False, comment="lower first"),
        sa.Column("configuration", JSONB, nullable=False, comment='{"params": {…}, "outbound": ["seal"]}'),
        *_times(),
        sa.PrimaryKeyConstraint("name", name="delivery_configurations_pkey"),
    )
    # A trigger, so that a change by hand reaches the routers too.
    op.execute(
        """
        CREATE FUNCTION notify_delivery_configurations() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_notify('delivery_configurations', ''); RETURN NULL; END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER delivery_configurations_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
        ON delivery_configurations FOR EACH STATEMENT EXECUTE FUNCTION notify_delivery_configurations()
        """
    )


def _bookkeeping() -> None:
    op.create_table(
        "kept_payloads",
        sa.Column("datafile", sa.Text, nullable=False, comment="key in the message store"),
        *_times(),
        sa.PrimaryKeyConstraint("datafile", name="kept_payloads_pkey"),
    )
    op.create_table(
        "recorder_progress",
        sa.Column("queue", sa.Text, nullable=False),
        sa.Column("caught_up_since", sa.BigInteger, comment="unix seconds; null = behind"),
        *_times(),
        sa.PrimaryKeyConstraint("queue", name="recorder_progress_pkey"),
    )
