"""The rules as this process last saw them (``shared.storage.snapshot``).

With Postgres down the router goes on with what it has. One that has never seen any rules holds its mail rather than guess.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import Gauge

from services.router.settings import ServiceSettings
from shared.delivery.rules import Rule, order_rules, parse_rule
from shared.storage import snapshot
from shared.storage.database import Connection
from shared.storage.rules_table import TABLE, fetch_rules

RULES = Gauge("router_rules", "Rules in force")
FRESH = Gauge("router_rules_fresh", "1 while the rules follow Postgres, 0 while the last snapshot is used")
SEEN = Gauge("router_rules_seen", "1 once rules were seen, 0 while all mail is held because none ever were")


class Snapshot(snapshot.Snapshot[Rule]):
    """The rules in force, in order of priority. All or none: routing by the others could send in clear what one of them seals."""

    what, table, count, fresh = "rules", TABLE, RULES, FRESH

    def __init__(self, settings: ServiceSettings) -> None:
        super().__init__(settings.router_snapshot)
        SEEN.set_function(lambda: float(self.is_known))

    async def fetch(self, connection: Connection) -> Sequence[Mapping[str, Any]]:
        """The rows."""
        return await fetch_rules(connection)

    def parse(self, documents: Sequence[Mapping[str, Any]]) -> list[Rule]:
        """The rules, ordered. Raises ValueError."""
        return order_rules([parse_rule(document) for document in documents])

    def render(self, item: Rule) -> Mapping[str, Any]:
        """A rule as it is kept on disk."""
        return {"name": item.name, "priority": item.priority, "configuration": item.document["configuration"]}
