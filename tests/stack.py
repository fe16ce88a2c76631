"""The tests' way to real servers and real processes: ``Stack``, the same code as ``make up``.

    with Stack(servers_only=True) as servers: ...          RabbitMQ and Postgres, empty
    with Stack(services=()) as stack: ...                  both, with migrations and topology.json applied
        stack.start("smtp-sender", RETRY_INTERVAL="1,2")   a process of ours; waits until it is ready
        stack.kill("smtp-sender"); stack.wait_ready("smtp-sender")
        stack.restart("rabbitmq"); stack.stop("postgres"); stack.start("postgres")
        stack.env["SMTP_INBOX_ADDRESS"], stack.pids("smtp-sender"), stack.log("smtp-sender").read_text()
    with Stack({"RETRY_INTERVAL": "1"}) as stack: ...      all seven processes with this setting

Most tests want the fixtures of ``conftest.py`` instead, which share one pair of servers: ``vhost``, ``database``,
``pipeline``.
"""

import sys
from collections.abc import Mapping, Sequence

from deploy.stack.temporary import TemporaryStack


class Stack(TemporaryStack):
    """A stack in a temporary folder that tells its steps on standard error (pytest shows them when a test fails)."""

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        services: Sequence[str] | None = None,
        servers_only: bool = False,
        scale: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(settings, services=services, servers_only=servers_only, scale=scale, say=_say)


def _say(line: str) -> None:
    print(line, file=sys.stderr)
