"""Endpoints that events are posted to."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

TRIGGERS = {
    "inserted": "INSERT ON webhooks REFERENCING NEW TABLE AS changed",
    "updated": "UPDATE ON webhooks REFERENCING NEW TABLE AS changed",
    "replaced": "UPDATE ON webhooks REFERENCING OLD TABLE AS changed",
    "deleted": "DELETE ON webhooks REFERENCING OLD TABLE AS changed",
    "truncated": "TRUNCATE ON webhooks",
}


def upgrade() -> None:
    """Make the table; nothing is dropped or changed."""
    op.create_table(
        "webhooks",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("document", JSONB, nullable=False, comment='{"url": "https://…", "events": ["failed"], "secret": "whsec_…"}'),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="unix seconds"),
        sa.Column("updated_at", sa.BigInteger, nullable=False, comment="unix seconds"),
        sa.PrimaryKeyConstraint("name", name="webhooks_pkey"),
    )
    for name, event in TRIGGERS.items():
        op.execute(f"CREATE TRIGGER webhooks_{name} AFTER {event} FOR EACH STATEMENT EXECUTE FUNCTION notify_names()")
