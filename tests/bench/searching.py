"""How long do a page of mails and a counter take, with ten million final mails in Postgres?

    python -m tests.bench.searching --rows 10000000

Fills a database of the previous schema, migrates it (timed as well), and asks every kind of question 20 times; each must stay below
200 ms. ``--database URL`` takes one that is filled already. Filling takes some minutes and 1 GB for a million mails at most.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

import psycopg

from shared.storage.counters import count_final, parse_question
from shared.storage.database import Connection, Database, DatabaseSettings, migrate
from shared.storage.search import find_page, parse_search
from tests.bench.searching_rows import DAYS, NEWEST, fill_message_status, upgrade_to
from tests.stack import Stack

BOUND = 0.2
RUNS = 20
PREVIOUS = "0003"
"""The schema before searches."""
NOW = datetime.fromtimestamp(NEWEST + 1, UTC)
_OLD = "2026-10-31 12:00:00"

PAGES: Mapping[str, Mapping[str, str]] = {
    "no condition": {},
    "no condition, 500 mails": {"limit": "500"},
    "no condition, from 23 days ago": {"until": _OLD},
    "since 2h": {"since": "2h"},
    "recipient, a few mails": {"recipient": "user1000000@big.example"},
    "recipient, none": {"recipient": "nobody@nowhere.example"},
    "recipient, 1 % of all": {"recipient": "monitor@ops.example"},
    "recipient, 1 % of all, from 23 days ago": {"recipient": "monitor@ops.example", "until": _OLD},
    "recipient, 1 % of all, and a sender without": {"recipient": "monitor@ops.example", "sender": "nobody@nowhere.example"},
    "recipient *@domain, 35 % of all": {"recipient": "*@big.example"},
    "recipient *@domain, none": {"recipient": "*@nowhere.example"},
    "destination, 35 % of all": {"destination": "big.example"},
    "destination, one of 2,000": {"destination": "d1234.example"},
    "destination, only in the first tenth": {"destination": "campaign.example"},
    "destination, none": {"destination": "nowhere.example"},
    "destination 35 %, failed": {"destination": "big.example", "status": "failed"},
    "destination 35 %, rare class": {"destination": "big.example", "class": "relay-denied"},
    "destination 35 %, class without": {"destination": "big.example", "class": "source"},
    "destination 35 %, sender": {"destination": "big.example", "sender": "sender400@shop.example"},
    "destination 35 %, sender without": {"destination": "big.example", "sender": "nobody@nowhere.example"},
    "destination in the first tenth, failed, since 2h": {"destination": "campaign.example", "status": "failed", "since": "2h"},
    "sender, 11 % of all": {"sender": "sender1@shop.example"},
    "sender, one of 500": {"sender": "sender400@shop.example"},
    "sender, one mail": {"sender": "bounce-5000000@verp.example"},
    "sender, none": {"sender": "nobody@nowhere.example"},
    "sender 11 %, failed": {"sender": "sender1@shop.example", "status": "failed"},
    "sender 11 %, class without": {"sender": "sender1@shop.example", "class": "source"},
    "sender *@domain, 95 % of all": {"sender": "*@shop.example"},
    "sender *@domain, none": {"sender": "*@nowhere.example"},
    "delivered": {"status": "delivered"},
    "failed": {"status": "failed"},
    "failed, from 23 days ago": {"status": "failed", "until": _OLD},
    "class, 3 % of all": {"class": "bad-mailbox"},
    "class, rare": {"class": "relay-denied"},
    "class, none": {"class": "source"},
    "class, and delivered (none)": {"class": "bad-mailbox", "status": "delivered"},
    "under way": {"status": "deferred"},
    "accepted": {"status": "accepted"},
    "everything at once, none": {
        "recipient": "*@big.example", "sender": "*@nowhere.example", "status": "failed", "class": "bad-mailbox", "since": "720h"
    },
    "recipient, archive as well": {"recipient": "nobody@nowhere.example", "archived": "true"},
}  # fmt: skip

COUNTERS: Mapping[str, Mapping[str, str]] = {
    "by destination, 24 h": {},
    "by destination, 48 h": {"since": "48h"},
    "by destination, 720 h": {"since": "720h"},
    "by destination, 720 h, 1,000 rows": {"since": "720h", "limit": "1000"},
    "by destination and class, 720 h": {"since": "720h", "by": "destination,class"},
    "by destination and status, 720 h, failed": {"since": "720h", "by": "destination,status", "status": "failed"},
    "by destination and hour, 24 h": {"since": "24h", "by": "destination,hour"},
    "by hour, 720 h": {"since": "720h", "by": "hour", "limit": "1000"},
    "by hour, class and status, 720 h": {"since": "720h", "by": "hour,class,status", "limit": "1000"},
    "by class, 720 h": {"since": "720h", "by": "class"},
    "by status, 8,760 h": {"since": "8760h", "by": "status"},
    "by hour, the destination with 35 %, 720 h": {"since": "720h", "by": "hour", "destination": "big.example", "limit": "1000"},
    "by class, the destination with 35 %, 720 h": {"since": "720h", "by": "class", "destination": "big.example"},
    "by hour, a destination without, 720 h": {"since": "720h", "by": "hour", "destination": "nowhere.example"},
}


@dataclass(frozen=True, slots=True)
class Timed:
    """A question that was asked ``RUNS`` times."""

    name: str
    seconds: tuple[float, ...]
    rows: int
    """Mails or counters in the first answer."""

    @property
    def is_fast(self) -> bool:
        """Every answer came in time."""
        return max(self.seconds) < BOUND


async def measure_searching(database: str) -> list[Timed]:
    """Every kind of page, the first and those that follow it, and every kind of counter; warm."""
    opened = Database(DatabaseSettings(db_uri=database))
    timed = []
    try:
        for name, given in PAGES.items():
            timed += await _measure_pages(opened, name, given)
        for name, given in COUNTERS.items():
            question = parse_question(given, NOW)

            async def ask(connection: Connection) -> int:
                return len((await count_final(connection, question))["counters"])  # noqa: B023

            timed.append(await _measure(opened, f"counters {name}", ask))
    finally:
        await opened.close()
    return timed


async def _measure_pages(database: Database, name: str, given: Mapping[str, str]) -> list[Timed]:
    cursor = ""
    timed = []
    for title in (f"page {name}", f"page {name}, the next"):
        search = parse_search({**given, "cursor": cursor}, NOW)

        async def ask(connection: Connection) -> int:
            return len((await find_page(connection, search)).messages)  # noqa: B023

        timed.append(await _measure(database, title, ask))
        async with database.connection() as connection:
            cursor = (await find_page(connection, search)).next or ""
        if not cursor:
            break
    return timed


async def _measure(database: Database, name: str, ask: Callable[[Connection], Awaitable[int]]) -> Timed:
    seconds = []
    rows = 0
    async with database.connection() as connection:
        await ask(connection)
    for _ in range(RUNS):
        began = time.perf_counter()
        async with database.connection() as connection:
            rows = await ask(connection)
        seconds.append(time.perf_counter() - began)
    return Timed(name, tuple(seconds), rows)


def prepare(database: str, rows: int) -> None:
    """Fill, migrate and let Postgres look at it; the times are told."""
    began = time.perf_counter()
    upgrade_to(database, PREVIOUS)
    fill_message_status(database, rows)
    filled = time.perf_counter()
    migrate(database)
    print(f"filled in {filled - began:.0f} s, migrated in {time.perf_counter() - filled:.0f} s", flush=True)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")


def render_timed(timed: list[Timed]) -> str:
    """A table."""
    lines = ["| question | rows | p50 | max | |", "| --- | --: | --: | --: | --- |"]
    for one in timed:
        word = "PASS" if one.is_fast else "FAIL"
        lines.append(
            f"| {one.name} | {one.rows} | {median(one.seconds) * 1000:.1f} ms | {max(one.seconds) * 1000:.1f} ms | {word} |"
        )
    return "\n".join(lines)


def main() -> int:
    """The command; 1 when an answer took too long."""
    parser = argparse.ArgumentParser(description=f"Pages and counters of {DAYS} days of mail, timed.")
    parser.add_argument("--rows", type=int, default=10_000_000, help="final mails (default: 10,000,000)")
    parser.add_argument("--database", metavar="URL", help="one that is filled and migrated already")
    given = parser.parse_args()
    if given.database:
        timed = asyncio.run(measure_searching(given.database))
    else:
        with Stack(servers_only=True) as stack:
            database = stack.postgres.create_database("searching")
            prepare(database, given.rows)
            timed = asyncio.run(measure_searching(database))
    slow = [one for one in timed if not one.is_fast]
    print(render_timed(timed))
    print(f"{len(timed) - len(slow)} of {len(timed)} questions below {BOUND * 1000:.0f} ms: {'FAIL' if slow else 'PASS'}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
