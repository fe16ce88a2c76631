"""Tokens, idempotent requests, local recipients, suppressions, pauses, forced errors."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

TABLES = {
    "tokens": '{"digest": "…", "scopes": ["send"]}',
    "locals": '{"reason": "…"}; the name is the pattern',
    "suppressions": '{"reason": "…", "expires": "YYYY-MM-DD HH:MM:SS"}; the name is the address or domain',
    "pauses": '{"destination": "example.org", "expires": "YYYY-MM-DD HH:MM:SS"}',
    "errors": '{"destination": "example.org", "code": 550, "description": "…"}',
}


NOTIFY = """
CREATE FUNCTION notify_names() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    names text := '';
BEGIN
    IF TG_OP <> 'TRUNCATE' THEN
        SELECT CASE WHEN count(*) > 100 THEN '' ELSE json_agg(name)::text END INTO names FROM changed;
        IF names IS NULL THEN
            RETURN NULL;
        ELSIF octet_length(names) > 7900 THEN
            names := '';
        END IF;
    END IF;
    PERFORM pg_notify(TG_TABLE_NAME, names);
    RETURN NULL;
END $$
"""
"""Tells the names of the rows that changed, as a JSON list; an empty text when they are too many for a notice (8,000 bytes)."""
TRIGGERS = {
    "inserted": "INSERT ON {} REFERENCING NEW TABLE AS changed",
    "updated": "UPDATE ON {} REFERENCING NEW TABLE AS changed",
    # A change of the name itself, by hand: the old one is gone.
    "replaced": "UPDATE ON {} REFERENCING OLD TABLE AS changed",
    "deleted": "DELETE ON {} REFERENCING OLD TABLE AS changed",
    "truncated": "TRUNCATE ON {}",
}


def upgrade() -> None:
    """Make the tables; nothing is dropped or changed."""
    op.execute(NOTIFY)
    for table, comment in TABLES.items():
        op.create_table(
            table,
            sa.Column("name", sa.Text, nullable=False),
            sa.Column("document", JSONB, nullable=False, comment=comment),
            sa.Column("created_at", sa.BigInteger, nullable=False, comment="unix seconds"),
            sa.Column("updated_at", sa.BigInteger, nullable=False, comment="unix seconds"),
            sa.PrimaryKeyConstraint("name", name=f"{table}_pkey"),
        )
        # Triggers, so that a change by hand reaches the processes too.
        for name, event in TRIGGERS.items():
            op.execute(
                f"CREATE TRIGGER {table}_{name} AFTER {event.format(table)} FOR EACH STATEMENT EXECUTE FUNCTION notify_names()"
            )
    op.create_table(
        "idempotent_requests",
        sa.Column("token", sa.Text, nullable=False, comment="name of the token; empty = none"),
        sa.Column("key", sa.Text, nullable=False, comment="the header Idempotency-Key"),
        sa.Column("digest", sa.Text, nullable=False, comment="SHA-256 of the request, in hex"),
        sa.Column("status", sa.Integer, comment="HTTP status of the answer; null = not answered yet"),
        sa.Column("answer", JSONB, comment="body of the answer"),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="unix seconds"),
        sa.Column("updated_at", sa.BigInteger, nullable=False, comment="unix seconds"),
        sa.PrimaryKeyConstraint("token", "key", name="idempotent_requests_pkey"),
        sa.Index("idempotent_requests_created_at_idx", "created_at"),
    )
