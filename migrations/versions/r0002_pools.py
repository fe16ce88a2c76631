"""Pools of source addresses."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    """Make the table; nothing is dropped or changed."""
    op.create_table(
        "pools",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("document", JSONB, nullable=False, comment='{"ips": ["192.0.2.1"], "helo": "mail.example"}'),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="unix seconds"),
        sa.Column("updated_at", sa.BigInteger, nullable=False, comment="unix seconds"),
        sa.PrimaryKeyConstraint("name", name="pools_pkey"),
    )
    # A trigger, so that a change by hand reaches the senders too.
    op.execute(
        """
        CREATE FUNCTION notify_pools() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_notify('pools', ''); RETURN NULL; END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER pools_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
        ON pools FOR EACH STATEMENT EXECUTE FUNCTION notify_pools()
        """
    )
