"""Millions of final mails, as skewed as real ones, for measurements of searches and counters."""

from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine

from shared.storage.database import MIGRATIONS

DAYS = 30
"""Over how many days before the newest one the mails are spread evenly."""
NEWEST = 1_795_406_400
"""Unix seconds of the newest mail: 2026-11-23 04:00:00."""

# 35 % to one provider, the rest over 2,000 domains, the n-th getting about 1/n; one address that a monitor writes to every few
# seconds; a campaign to one domain in the first tenth of the time and never again; 7 % failed, in ten classes of which one is
# rare; a few senders with nearly everything, and 5 % with an address of their own for every mail (VERP).
_FILL = """
    INSERT INTO message_status (
        id, transaction, recipients_total, message_id, subject, sender, recipient, delivery_strategy, status, state, code, class,
        destination, results, created_at, updated_at
    )
    SELECT gen_random_uuid()::text, gen_random_uuid()::text, 1, '<' || i || '@shop.example>', 'Your order ' || i, sender,
        CASE WHEN i %% 100 = 7 THEN 'monitor@ops.example' ELSE 'user' || (3e6 * r3 * r3)::int || '@' || destination END,
        'smtp', status, CASE WHEN status = 'failed' THEN 'rcptto' ELSE 'message' END,
        CASE WHEN status = 'failed' THEN 550 ELSE 250 END, class,
        CASE WHEN i %% 100 = 7 THEN 'ops.example' ELSE destination END,
        jsonb_build_array(jsonb_build_object(
            'attempt', 1, 'state', 'message', 'result', 'accepted', 'code', 250, 'status', '2.0.0', 'mta', 'mx.' || destination,
            'description', '2.0.0 Ok: queued as ' || md5(i::text), 'from', '192.0.2.1', 'to', '198.51.100.7', 'strategy', 'smtp',
            'time', '2026-11-23 04:00:00'
        )), moment, moment
    FROM (
        SELECT i, r3, %(newest)s - %(seconds)s::bigint * (%(rows)s - i) / %(rows)s AS moment,
            CASE WHEN i < %(rows)s / 10 AND r1 < 0.2 THEN 'campaign.example' WHEN r1 < 0.35 THEN 'big.example'
                ELSE 'd' || floor(power(2000, r2))::int || '.example' END AS destination,
            CASE WHEN r4 < 0.05 THEN 'bounce-' || i || '@verp.example'
                ELSE 'sender' || floor(power(500, r5))::int || '@shop.example' END AS sender,
            CASE WHEN r6 < 0.07 THEN 'failed' ELSE 'delivered' END AS status,
            CASE WHEN r6 < 0.000001 THEN 'relay-denied' WHEN r6 < 0.07 THEN
                (ARRAY['bad-mailbox', 'quota', 'policy-spam', 'policy', 'policy-auth', 'bad-content', 'too-large', 'expired'])
                    [floor(power(9, r3))::int] END AS class
        FROM (
            SELECT i, random() AS r1, random() AS r2, random() AS r3, random() AS r4, random() AS r5, random() AS r6
            FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS i OFFSET 0
        ) AS dice
    ) AS mails
"""
_CHUNK = 500_000


def upgrade_to(database: str, revision: str) -> None:
    """Apply the migrations up to ``revision``: the schema of an older release."""
    engine = create_engine("postgresql+psycopg://", poolclass=NullPool, creator=lambda: psycopg.connect(database))
    config = Config()
    config.set_main_option("script_location", str(Path(MIGRATIONS)))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def fill_message_status(database: str, rows: int) -> None:
    """Insert ``rows`` final mails, whatever the schema."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SELECT set_config('synchronous_commit', 'off', false), setseed(0.5)")
        for first in range(1, rows + 1, _CHUNK):
            last = min(rows, first + _CHUNK - 1)
            values = {"rows": rows, "first": first, "last": last, "newest": NEWEST, "seconds": DAYS * 86_400}
            connection.execute(_FILL, values)
        connection.execute("VACUUM (ANALYZE) message_status")
