"""A private validating resolver: Unbound on loopback, which takes all it knows from one name server of the tests.

with Unbound(folder, upstream=dns.address, trust_anchors=[signed.trust_anchor]) as unbound: … unbound.address
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import dns.exception
import dns.message
import dns.query

from tests.support.addresses import parse_address
from tests.support.waiting import free_ports, wait_until

PROGRAM = Path("/usr/sbin/unbound")
_CONFIG = """\
server:
    interface: 127.0.0.1
    port: {port}
    do-daemonize: no
    chroot: ""
    username: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    logfile: "{folder}/unbound.log"
    val-log-level: 2
    num-threads: 1
    module-config: "validator iterator"
    do-not-query-localhost: no
    do-ip6: no
    access-control: 127.0.0.0/8 allow
    qname-minimisation: no
    target-fetch-policy: "0 0 0 0 0"
    trust-anchor-signaling: no
    root-key-sentinel: no
    trust-anchor-file: "{folder}/anchors"
remote-control:
    control-enable: no
stub-zone:
    name: "example."
    stub-addr: {host}@{upstream}
    stub-prime: no
"""


class Unbound:
    """Unbound as a process of this test; use as ``with``. It asks ``upstream`` for every name in ``example``."""

    def __init__(self, folder: Path, *, upstream: str, trust_anchors: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        [port] = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        """``host:port``."""
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        host, upstream_port = parse_address(upstream)
        (folder / "anchors").write_text("\n".join(trust_anchors) + "\n")
        config = _CONFIG.format(port=port, folder=folder, host=host, upstream=upstream_port)
        (folder / "unbound.conf").write_text(config)

    def __enter__(self) -> Self:
        """Start it and wait until it answers."""
        command = [str(PROGRAM), "-d", "-c", str(self._folder / "unbound.conf")]
        output = (self._folder / "output").open("wb")
        with output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_until(
                self._answers, within=15, every=0.1, what="Unbound to answer", tolerating=(OSError, dns.exception.DNSException)
            )
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def read_log(self) -> str:
        """What it says about validations that failed."""
        return (self._folder / "unbound.log").read_text("utf-8", "replace")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            output = (self._folder / "output").read_text("utf-8", "replace")
            raise RuntimeError(f"Unbound ended with {self._process.returncode}: {output}{self.read_log()}")
        host, port = parse_address(self.address)
        # Any answer will do, and one that does not need the name server comes at once.
        return bool(dns.query.udp(dns.message.make_query("localhost", "A"), host, timeout=0.5, port=port).answer)
