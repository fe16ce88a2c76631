"""The rules as this process last saw them: in memory, refreshed when Postgres notifies a change and now and then, kept on disk.

With Postgres down the router goes on with what it has. One that has never seen any rules holds its mail rather than guess.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import Gauge

from services.router.settings import ServiceSettings
from shared.delivery.rules import Rule, order_rules, parse_rule
from shared.log import get_logger
from shared.storage.database import connect, translating
from shared.storage.rules_table import fetch_rules, listen, wait_for_change
from shared.trouble import Unavailable

log = get_logger()

RULES = Gauge("router_rules", "Rules in force")
FRESH = Gauge("router_rules_fresh", "1 while the rules follow Postgres, 0 while the last snapshot is used")
FETCH_TIMEOUT = 10.0
"""Seconds: a frozen Postgres does not obey its own statement timeout."""
RETRY_PAUSE = 2.0
"""Seconds between two tries to reach Postgres."""


class Snapshot:
    """The rules in force."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._rules: list[Rule] | None = None

    @property
    def rules(self) -> Sequence[Rule]:
        """In order of priority. Raises Unavailable when none were ever seen."""
        if self._rules is None:
            raise Unavailable("the rules were never seen: Postgres is out of reach and there is no snapshot on disk")
        return self._rules

    async def load(self) -> None:
        """The first rules: from Postgres, else from disk, else none yet."""
        try:
            connection = await connect(self._settings, name="router")
            async with translating(), connection, asyncio.timeout(FETCH_TIMEOUT):
                self.take(await fetch_rules(connection))
        except Unavailable as error:
            log.warning("starting with the last snapshot of the rules", reason=str(error))
        if self._rules is None:
            self._rules = read_snapshot(self._settings.router_snapshot)

    async def follow(self) -> None:
        """Keep the rules fresh, for ever."""
        while True:
            try:
                await self._follow_once()
            except (Unavailable, OSError) as error:
                FRESH.set(0)
                log.warning("going on with the last rules", reason=str(error))
            await asyncio.sleep(RETRY_PAUSE)

    async def _follow_once(self) -> None:
        connection = await connect(self._settings, name="router")
        async with translating(), connection:
            await listen(connection)
            while True:
                async with asyncio.timeout(FETCH_TIMEOUT):
                    self.take(await fetch_rules(connection))
                await wait_for_change(connection, self._settings.router_refresh)

    def take(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """These rules are in force from now on, unless one of them cannot be read."""
        try:
            ordered = order_rules([parse_rule(row) for row in rows])
        except ValueError as error:
            # Routing by the other rules could send in clear what this one seals.
            FRESH.set(0)
            log.error("a rule cannot be read: going on with the last rules", reason=str(error))
            return
        FRESH.set(1)
        if ordered == self._rules:
            return
        self._rules = ordered
        RULES.set(len(ordered))
        log.info("rules in force", count=len(ordered))
        try:
            write_snapshot(self._settings.router_snapshot, ordered)
        except OSError as error:
            log.warning("the rules could not be kept on disk", path=str(self._settings.router_snapshot), reason=str(error))


def read_snapshot(path: Path) -> list[Rule] | None:
    """The rules on disk; None when there are none that can be read."""
    try:
        return order_rules([parse_rule(document) for document in orjson.loads(path.read_bytes())])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        log.error("the snapshot of the rules cannot be read", path=str(path), reason=str(error))
        return None


def write_snapshot(path: Path, rules: Sequence[Rule]) -> None:
    """Replace the file in one step: a crash leaves the old one or the new one."""
    documents = [
        {"name": rule.name, "priority": rule.priority, "configuration": rule.document["configuration"]} for rule in rules
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(orjson.dumps(documents))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
