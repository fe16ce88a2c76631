"""dnsmasq as an authoritative name server for a zone of the test's own; it asks nobody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import dns.exception
import dns.message
import dns.query

from deploy.stack.places import find_program
from tests.support.peers.process import PeerProcess, as_other_user


class Dnsmasq(PeerProcess):
    """``Dnsmasq(folder, ["mx-host=x.example,mx.x.example,10", …])``: lines as in dnsmasq.conf(5)."""

    def __init__(self, folder: Path, records: Sequence[str]) -> None:
        super().__init__(folder)
        self._records = records

    def prepare(self) -> tuple[Sequence[str], Mapping[str, str]]:
        """Write the configuration: nothing of the machine's own resolver, hosts or users."""
        configuration = self.folder / "dnsmasq.conf"
        lines = (
            "no-daemon", "no-resolv", "no-hosts", "no-poll", "bind-interfaces", "log-queries", "log-facility=-", "local-ttl=60",
            f"listen-address={self.host}", f"port={self.port}", "user=", "group=", "pid-file=", "local=/example/", "local=/com/",
        )  # fmt: skip
        configuration.write_text("\n".join([*lines, *self._records, ""]))
        program = str(find_program("dnsmasq", "/usr/sbin/dnsmasq"))
        return [*as_other_user(), program, f"--conf-file={configuration}"], {}

    def answers(self) -> bool:
        """Does it answer questions?"""
        question = dns.message.make_query("nothing.example", "A")
        try:
            dns.query.udp(question, self.host, timeout=0.1, port=self.port)
        except (OSError, dns.exception.DNSException):
            return False
        return True

    def count_queries(self, kind: str, name: str) -> int:
        """How often it was asked: ``count_queries("MX", "x.example")``."""
        return self.log.count(f"query[{kind}] {name} from")
