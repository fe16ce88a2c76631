"""The DNS of (e): an MX and a host for each of many domains. Run as a process of its own.

python -m tests.bench.zone --listen 127.0.0.1:5353 --parent e.example --domains 1000 --tarpit
"""

import argparse
from collections.abc import Mapping
from typing import Any

import dns.message
import dns.rrset

from tests.bench.publisher import name_domain
from tests.support.dns_zone import ZoneServer
from tests.support.running import run_until_signal

TARPITTED = 0
"""Index of the domain that may have a tarpit."""
TARPIT = "127.2.0.1"
_TTL = 3600
"""Seconds, of "there is none" too: as in real life everything is asked once."""
_SOA = dns.rrset.from_text(".", _TTL, "IN", "SOA", f"ns.invalid. nobody.invalid. 1 60 60 60 {_TTL}")


def find_host(index: int, *, has_tarpit: bool) -> str:
    """The address of a domain's only host; each has one of its own."""
    return TARPIT if has_tarpit and index == TARPITTED else f"127.1.{index // 250}.{index % 250 + 1}"


def describe_zone(parent: str, domains: int, *, has_tarpit: bool) -> Mapping[str, Any]:
    """For ``ZoneServer``."""
    zone: dict[str, Any] = {}
    for index in range(domains):
        domain = name_domain(index, parent)
        zone[domain] = {"MX": f"10 mx.{domain}", "TTL": _TTL}
        zone[f"mx.{domain}"] = {"A": find_host(index, has_tarpit=has_tarpit), "TTL": _TTL}
    return zone


class LastingZone(ZoneServer):
    """Its negative answers are kept for as long as the others."""

    def answer(self, wire: bytes) -> tuple[dns.message.Message | None, float]:
        """As ZoneServer, with another SOA."""
        response, delay = super().answer(wire)
        if response is not None and response.authority:
            response.authority = [_SOA]
        return response, delay


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.zone", description=__doc__)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--parent", required=True)
    parser.add_argument("--domains", type=int, required=True)
    parser.add_argument("--tarpit", action="store_true")
    given = parser.parse_args()
    zone = describe_zone(given.parent, given.domains, has_tarpit=given.tarpit)
    run_until_signal("dns", LastingZone(zone, listen=[given.listen]))


if __name__ == "__main__":
    main()
