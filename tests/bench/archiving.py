"""How quickly the archiver moves old verdicts: real rows in a real Postgres, moved by the archiver's own run.

python -m tests.bench.archiving [--rows 500000] [--rounds 3] [--batch 1000]
"""

import argparse
import sys
import time
from dataclasses import dataclass

import psycopg
import uvloop

from deploy.stack.postgres import Postgres
from deploy.stack.temporary import TemporaryStack
from services.archiver.handler import archive_once
from services.archiver.settings import ServiceSettings
from shared.settings import load
from shared.storage.database import Database, migrate
from shared.storage.open_store import open_store

ROWS = 500_000
_DATABASE = "bench_archiving"
_DAY = 86_400

# Three attempts in a fifth of the rows, one in the others: about 600 octets of results on average, as the recorder writes them.
_FILL = """
    INSERT INTO message_status (
        id, transaction, recipients_total, message_id, subject, sender, recipient, delivery_strategy, status, state, code, class,
        destination, results, created_at, updated_at
    )
    SELECT id, transaction, 1, '<' || transaction || '@shop.example>', 'Your order ' || n || ' has been sent', 'orders@shop.example',
        'customer' || n || '@' || domain, 'smtp', CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'delivered' END, 'message',
        CASE WHEN n %% 50 = 0 THEN 550 ELSE 250 END, CASE WHEN n %% 50 = 0 THEN 'invalid-recipient' END, domain,
        (
            SELECT jsonb_agg(jsonb_build_object(
                'attempt', attempt, 'state', 'message', 'result', CASE WHEN attempt < attempts THEN 'refused' ELSE 'accepted' END,
                'code', CASE WHEN attempt < attempts THEN 451 ELSE 250 END, 'status', '2.0.0',
                'description', '2.0.0 Ok: queued as ' || md5(id || attempt) || ' at the second relay of ' || domain,
                'time', '2026-08-01 12:00:00', 'mta', 'mx' || attempt || '.' || domain, 'from', '192.0.2.' || n %% 250,
                'to', '198.51.100.' || n %% 250, 'strategy', 'smtp', 'class', 'none', 'ehlo', 'mail.shop.example',
                'tls', jsonb_build_object('version', 'TLSv1.3', 'cipher', 'TLS_AES_256_GCM_SHA384', 'verified', true)
            )) FROM generate_series(1, attempts) attempt
        ),
        %(oldest)s + n / 100 - 60, %(oldest)s + n / 100
    FROM (
        SELECT n, gen_random_uuid()::text AS id, gen_random_uuid()::text AS transaction, 'domain' || n %% 997 || '.example' AS domain,
            CASE WHEN n %% 5 = 0 THEN 3 ELSE 1 END AS attempts
        FROM generate_series(1, %(rows)s) n
    ) made
"""
_TOLD = "SELECT count(*), sum(hashtext(id)::bigint), avg(octet_length(results::text))::integer FROM {}"


@dataclass(frozen=True, slots=True)
class ArchivingResult:
    """One run over a table full of old verdicts."""

    rows: int
    octets: int
    """Of results, on average per row."""
    seconds: float
    faults: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Rows per second."""
        return self.rows / self.seconds if self.seconds else 0.0


def measure_archiving(postgres: Postgres, *, rows: int = ROWS, batch: int = 1000) -> ArchivingResult:
    """Fill a database of its own on this server with old verdicts, let the archiver move them, count them, drop the database."""
    address = postgres.create_database(_DATABASE)
    try:
        migrate(address)
        now = int(time.time())
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute(_FILL.encode(), {"rows": rows, "oldest": now - 200 * _DAY})
            connection.execute("VACUUM ANALYZE message_status")
            connection.execute("CHECKPOINT")
            before = connection.execute(_TOLD.format("message_status").encode()).fetchone()
            began = time.perf_counter()
            moved = uvloop.run(_run(address, batch))
            seconds = time.perf_counter() - began
            after = connection.execute(_TOLD.format("message_status_archive").encode()).fetchone()
            (left,) = connection.execute("SELECT count(*) FROM message_status").fetchone() or (None,)
        faults = []
        if moved != rows or left != 0:
            faults.append(f"{moved:,} of {rows:,} rows were moved, {left:,} are left")
        if before != after:
            faults.append("the archive does not have the rows that the table had")
        return ArchivingResult(rows, int(before[2]) if before else 0, seconds, tuple(faults))
    finally:
        postgres.drop_database(_DATABASE)


async def _run(address: str, batch: int) -> int:
    settings = load(ServiceSettings, options={"db-uri": address, "archive-batch-size": str(batch)}).settings
    database, store = Database(settings, name="archiver"), open_store(settings)
    try:
        return (await archive_once(database, store, settings, sweep=False)).moved
    finally:
        await database.close()
        await store.close()


def main() -> int:
    """Measure on a Postgres of its own; 0 when every round counts."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.archiving", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1000, help="ARCHIVE_BATCH_SIZE")
    given = parser.parse_args()
    results = []
    # A broker of somebody else's that nobody asks: so none is started.
    with TemporaryStack({"RABBITMQ_ADDRESS": "amqp://127.0.0.1:1"}, servers_only=True) as stack:
        for _ in range(given.rounds):
            results.append(measure_archiving(stack.postgres, rows=given.rows, batch=given.batch))
            one = results[-1]
            print(
                f"{one.rows:,} rows with {one.octets} octets of results in {one.seconds:.1f} s: {one.rate:,.0f} rows/s",
                *one.faults,
            )
    print(f"best of {len(results)}: {max(one.rate for one in results):,.0f} rows/s")
    return 1 if any(one.faults for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
