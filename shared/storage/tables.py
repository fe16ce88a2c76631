"""The tables, as the newest migration leaves them. ``migrations`` makes them; a test compares the two.

Times are unix seconds. ``id`` is ours, one per recipient; ``transaction`` is shared by the recipients of one submission.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)


def _times() -> tuple[Column[int], Column[int]]:
    return (
        Column("created_at", BigInteger, nullable=False, comment="unix seconds"),
        Column("updated_at", BigInteger, nullable=False, comment="unix seconds"),
    )


# What searches look for (``shared.storage.search``). The indexes of ``destination`` and ``class`` are COLLATE "C", too, which is
# not compared.
_RECIPIENT = text('lower(recipient COLLATE "C")')
_SENDER = text('lower(sender COLLATE "C")')
_FAILED = text("status = 'failed'")

messages = Table(
    "messages",
    metadata,
    Column("transaction", Text, primary_key=True),
    Column("message_id", Text, nullable=False, comment="Message-ID header, else ours; not unique"),
    Column("message_type", Text, nullable=False, comment="mail or report (multipart/report)"),
    Column("sender", Text, nullable=False, comment="reverse-path; empty = null sender"),
    Column("recipients", JSONB, nullable=False, comment="{id: {recipient, message_id, datafile}} of those seen so far"),
    Column("recipients_total", Integer, nullable=False),
    Column("subject", Text, nullable=False),
    Column("channel", Text, nullable=False, comment="smtp, json or amqp"),
    Column("status", Text, nullable=False, comment="accepted, routed, deferred or final"),
    Column("return_path", Text, nullable=False),
    Column("datafile", Text, comment="key in the message store; null = the content rides in the message"),
    Column("strategy", Text, comment="delivery strategy asked for"),
    Column("ids", ARRAY(Text), nullable=False, comment="every id and message-id of its recipients, to find it by"),
    Column("keepmime", Boolean, nullable=False, comment="the payload outlives the mail"),
    Column("next_attempt_at", BigInteger, nullable=False, comment="unix seconds; when the first attempt is due"),
    *_times(),
    CheckConstraint("status IN ('accepted', 'routed', 'deferred', 'final')", name="status"),
    Index("messages_ids_idx", "ids", postgresql_using="gin"),
    Index("messages_datafile_idx", "datafile", postgresql_where=text("datafile IS NOT NULL")),
    Index("messages_created_at_idx", "created_at"),
    Index(
        "messages_untried_idx",
        "next_attempt_at",
        postgresql_where=text("status IN ('accepted', 'routed') OR recipients_total > 1"),
    ),
)
"""Mail under way, a row per submission; the row goes when all its recipients are final."""

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("id", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("attempt", Integer, nullable=False, comment="from 1"),
    Column("state", Text),
    Column("result", Text),
    Column("code", Integer),
    Column("status", Text, comment="enhanced status code, RFC 3463"),
    Column("description", Text),
    Column("class", Text, comment="our bounce class"),
    Column("mta", Text),
    Column("from", Text, comment="local address"),
    Column("to", Text, comment="remote address"),
    Column("time", BigInteger, nullable=False, comment="unix seconds"),
    Column("destination", Text, nullable=False, comment="domain of the recipient"),
    Column("next_attempt_at", BigInteger, comment="unix seconds; only on the newest attempt of a mail"),
    Column("report", JSONB, nullable=False, comment="the whole attempt as on the wire"),
    *_times(),
    PrimaryKeyConstraint("id", "attempt"),
    Index("delivery_attempts_next_attempt_at_idx", "next_attempt_at", postgresql_where=text("next_attempt_at IS NOT NULL")),
    Index("delivery_attempts_newest_idx", "created_at", postgresql_where=text("next_attempt_at IS NOT NULL")),
    Index(
        "delivery_attempts_newest_destination_idx",
        "destination",
        "created_at",
        postgresql_where=text("next_attempt_at IS NOT NULL"),
    ),
)
"""Every attempt of mail still under way; moved into ``message_status.results`` when the mail is final."""


def _status_columns() -> tuple[Column[Any], ...]:
    return (
        Column("id", Text, nullable=False),
        Column("transaction", Text, nullable=False),
        Column("recipients_total", Integer, nullable=False),
        Column("message_id", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("sender", Text, nullable=False),
        Column("recipient", Text, nullable=False),
        Column("delivery_strategy", Text),
        Column("status", Text, nullable=False, comment="delivered or failed"),
        Column("state", Text),
        Column("code", Integer),
        Column("class", Text),
        Column("destination", Text, nullable=False),
        Column("results", JSONB, nullable=False, comment="every attempt as on the wire, oldest first"),
        *_times(),
        Column("accepted_at", BigInteger, comment="unix seconds; null = recorded before there was this column"),
    )


message_status = Table(
    "message_status",
    metadata,
    *_status_columns(),
    PrimaryKeyConstraint("id"),
    CheckConstraint("status IN ('delivered', 'failed')", name="status"),
    Index("message_status_message_id_idx", "message_id", postgresql_where=text("message_id <> id")),
    Index("message_status_transaction_idx", "transaction", postgresql_where=text("recipients_total > 1")),
    Index("message_status_updated_at_idx", "updated_at"),
    Index("message_status_recipient_idx", _RECIPIENT, "updated_at"),
    Index("message_status_destination_idx", "destination", "updated_at"),
    Index("message_status_sender_idx", _SENDER, "updated_at"),
    Index("message_status_failed_idx", "updated_at", postgresql_where=_FAILED),
    Index("message_status_failed_destination_idx", "destination", "updated_at", postgresql_where=_FAILED),
    Index("message_status_failed_sender_idx", _SENDER, "updated_at", postgresql_where=_FAILED),
    Index("message_status_class_idx", "class", "updated_at", postgresql_where=text("class IS NOT NULL")),
)
"""The final verdict on a recipient's mail. Triggers count its rows in ``message_counts``."""

message_status_archive = Table(
    "message_status_archive",
    metadata,
    *_status_columns(),
    Column("archived_at", BigInteger, nullable=False, comment="unix seconds; retention counts from here"),
    PrimaryKeyConstraint("id", "archived_at"),
    Index("message_status_archive_message_id_idx", "message_id", postgresql_where=text("message_id <> id")),
    Index("message_status_archive_archived_at_idx", "archived_at", postgresql_using="brin"),
    Index("message_status_archive_updated_at_idx", "updated_at"),
    Index("message_status_archive_recipient_idx", _RECIPIENT, "updated_at"),
    postgresql_partition_by="RANGE (archived_at)",
)
"""Old verdicts, a partition per month of archiving (``message_status_archive_2026_11``), made and dropped by the archiver."""

message_counts = Table(
    "message_counts",
    metadata,
    Column("level", Text(collation="C"), nullable=False, comment="hour, day; total: an hour, all destinations together"),
    Column("start", BigInteger, nullable=False, comment="unix seconds; beginning of the hour or day (UTC)"),
    Column("destination", Text(collation="C"), nullable=False, comment="empty in level total"),
    Column("class", Text(collation="C"), nullable=False, comment="our bounce class; empty = none"),
    Column("status", Text(collation="C"), nullable=False, comment="delivered or failed"),
    Column("changed", Boolean, nullable=False, comment="true: what later changes of verdicts add and take away"),
    Column("count", BigInteger, nullable=False, comment="mails that became final in it"),
    *_times(),
    PrimaryKeyConstraint("level", "start", "destination", "class", "status", "changed"),
    CheckConstraint("level IN ('hour', 'day', 'total')", name="level"),
    Index("message_counts_destination_idx", "destination", "start", postgresql_where=text("level = 'hour'")),
)
"""How many mails became final, kept by triggers on ``message_status``; what moves to the archive stays counted."""

delivery_configurations = Table(
    "delivery_configurations",
    metadata,
    Column("name", Text, primary_key=True),
    Column("priority", Integer, nullable=False, comment="lower first"),
    Column("configuration", JSONB, nullable=False, comment='{"params": {…}, "outbound": ["seal"]}'),
    *_times(),
)
"""The router's rules. A trigger notifies the channel of the same name at every change."""


def _documents(name: str, comment: str) -> Table:
    """Named documents (``shared.storage.documents``). A trigger notifies the channel of the same name at every change."""
    return Table(
        name,
        metadata,
        Column("name", Text, primary_key=True),
        Column("document", JSONB, nullable=False, comment=comment),
        *_times(),
    )


pools = _documents("pools", '{"ips": ["192.0.2.1"], "helo": "mail.example"}')
"""Pools of source addresses."""
tokens = _documents("tokens", '{"digest": "…", "scopes": ["send"]}')
"""Who may use json-inbox, and for what."""
locals_ = _documents("locals", '{"reason": "…"}; the name is the pattern')
"""Local recipients, besides those of the settings."""
suppressions = _documents("suppressions", '{"reason": "…", "expires": "YYYY-MM-DD HH:MM:SS"}; the name is the address or domain')
"""Recipients that get no mail."""
pauses = _documents("pauses", '{"destination": "example.org", "expires": "YYYY-MM-DD HH:MM:SS"}')
"""Mail that waits."""
errors = _documents("errors", '{"destination": "example.org", "code": 550, "description": "…"}')
"""Mail that fails without an attempt."""
webhooks = _documents("webhooks", '{"url": "https://…", "events": ["failed"], "secret": "whsec_…"}')
"""Endpoints that events are posted to."""

idempotent_requests = Table(
    "idempotent_requests",
    metadata,
    Column("token", Text, nullable=False, comment="name of the token; empty = none"),
    Column("key", Text, nullable=False, comment="the header Idempotency-Key"),
    Column("digest", Text, nullable=False, comment="SHA-256 of the request, in hex"),
    Column("status", Integer, comment="HTTP status of the answer; null = not answered yet"),
    Column("answer", JSONB, comment="body of the answer"),
    *_times(),
    PrimaryKeyConstraint("token", "key"),
    Index("idempotent_requests_created_at_idx", "created_at"),
)
"""Requests with a key that were answered, so that the same request is answered the same and nothing is sent twice."""

kept_payloads = Table(
    "kept_payloads",
    metadata,
    Column("datafile", Text, primary_key=True, comment="key in the message store"),
    *_times(),
)
"""Payloads of mail with ``keepmime``: never swept."""

recorder_progress = Table(
    "recorder_progress",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("caught_up_since", BigInteger, comment="unix seconds; null = behind"),
    *_times(),
)
"""Since when the recorder has kept up without a break; all that was published before ``updated_at`` was recorded.
The sweep of payloads trusts this."""
