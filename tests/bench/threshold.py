"""``python -m tests.bench.threshold``: what a mail costs when its content rides in the message, and when it lies in the store.

The figures of docs/adr/0005. One RabbitMQ and one Postgres; for each place of the content a virtual host and processes of its own
(smtp-inbox, router, smtp-sender, result-recorder), all alive at the same time, measured in turns: so what else the machine does meets
all alike. Load by Postfix's smtp-source with 20 sessions, into a sink. Medians of all rounds.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from tests.bench.sink import Sink
from tests.bench.usage import Meter
from tests.integration.swift import ACCESS_KEY, SECRET_KEY, Swift
from tests.stack import Stack
from tests.support.waiting import free_ports, wait_until

SIZES = (5, 20, 32, 64, 100, 256)
"""KB."""
SESSIONS = 20
NEVER, ALWAYS = str(2**30), "0"


@dataclass(frozen=True)
class Place:
    """Where the content is, and the processes that work so."""

    name: str
    stack: Stack
    inbox: str
    sink: Sink

    def pids(self) -> list[int]:
        """Of our processes."""
        return [pid for service in ("smtp-inbox", "router", "smtp-sender", "result-recorder") for pid in self.stack.pids(service)]


@dataclass(frozen=True)
class Measured:
    """Of one round."""

    accepted: float
    """Mails per second until the last 250."""
    delivered: float
    """Mails per second until the last is at the sink."""
    cpu: dict[str, float]
    """Milliseconds per mail: ours, rabbitmq, s3, and all together."""


@contextmanager
def open_place(servers: Stack, folder: Path, name: str, settings: dict[str, str]) -> Iterator[Place]:
    """Processes that put content there, and a sink of their own."""
    vhost = f"threshold-{name}-{uuid.uuid4().hex[:6]}"
    address = servers.rabbitmq.create_vhost(vhost)
    database = servers.postgres.create_database(vhost.replace("-", "_"))
    (port,) = free_ports(1)
    with Sink(folder / f"ledger-{name}", f"127.0.0.1:{port}") as sink:
        given = {"RABBITMQ_ADDRESS": address, "RABBITMQ_API": servers.rabbitmq.api, "DB_URI": database}
        given |= {"SMTP_SINK_ADDRESS": f"127.0.0.1:{port}", "INBOUND_SMTP_MAX_CLIENT_CONNECTIONS": "100", **settings}
        services = ("smtp-inbox", "router", "smtp-sender", "result-recorder")
        with Stack(given, services=services) as stack:
            yield Place(name, stack, stack.env["SMTP_INBOX_ADDRESS"], sink)


def run(place: Place, size: int, messages: int, others: dict[str, list[int]]) -> Measured:
    """One round."""
    before = place.sink.count()
    groups = {"ours": place.pids(), **others}
    with Meter(groups) as meter:
        began = time.monotonic()
        how = ["-s", str(SESSIONS), "-m", str(messages), "-l", str(size * 1024), "-f", "a@shop.example", "-t", "r@good.example"]
        subprocess.run(["smtp-source", *how, "-d", place.inbox], check=True, capture_output=True)
        accepted = time.monotonic() - began
        wait_until(lambda: place.sink.count() >= before + messages, within=300, every=0.05)
        delivered = time.monotonic() - began
        cpu = {name: used * 1000 / messages for name, used in meter.read().cpu.items()}
    # What is recorded and deleted afterwards must not burden the next round.
    wait_until(lambda: _count_under_way(place) == 0, within=300, every=0.25)
    return Measured(messages / accepted, messages / delivered, cpu)


def _count_under_way(place: Place) -> int:
    with psycopg.connect(place.stack.env["DB_URI"]) as connection:
        row = connection.execute("SELECT count(*) FROM messages").fetchone()
    return int(row[0]) if row else 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.threshold", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="KB")
    parser.add_argument("--megabytes", type=int, default=20, help="of content in a round, 150 to 600 mails")
    parser.add_argument("--places", default="inline,dir,s3", help="where the content is")
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    folder = Path(tempfile.mkdtemp(prefix="threshold-"))
    try:
        with ExitStack() as contexts:
            servers = contexts.enter_context(Stack(servers_only=True))
            swift_folder = folder / "swift"
            swift_folder.mkdir()
            swift = contexts.enter_context(Swift(swift_folder))
            swift.make_bucket("payloads")
            s3 = {"STORAGE_URL": "s3://payloads", "S3_HOSTNAME": swift.address, "S3_SECURE": "false"}
            s3 |= {"S3_ACCESS_KEY": ACCESS_KEY, "S3_SECRET_KEY": SECRET_KEY, "STORAGE_THRESHOLD": ALWAYS}
            ways = {"inline": {"STORAGE_THRESHOLD": NEVER}, "dir": {"STORAGE_THRESHOLD": ALWAYS}, "s3": s3}
            ways = {name: more for name, more in ways.items() if name in given.places.split(",")}
            places = [contexts.enter_context(open_place(servers, folder, name, more)) for name, more in ways.items()]
            beams = [process.pid for process in psutil.process_iter(["name"]) if process.info["name"] == "beam.smp"]
            ours = {parent.pid for parent in psutil.Process().children(recursive=True)}
            others = {"rabbitmq": [pid for pid in beams if pid in ours], "s3": swift.pids}
            found: dict[tuple[int, str], list[Measured]] = {}
            for number in range(given.rounds):
                for size in sizes:
                    messages = max(150, min(600, given.megabytes * 1024 // size))
                    for place in places if number % 2 else places[::-1]:
                        found.setdefault((size, place.name), []).append(run(place, size, messages, others))
                        print(number, size, place.name, found[size, place.name][-1], file=sys.stderr, flush=True)
            _show(found, sizes, list(ways))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _show(found: dict[tuple[int, str], list[Measured]], sizes: list[int], ways: list[str]) -> None:
    print(
        "| size | content | accepted/s | delivered/s | CPU ms/mail: ours | RabbitMQ | S3 |\n| --: | --- | --: | --: | --: | --: | --: |"
    )
    for size in sizes:
        for way in ways:
            rounds = found[size, way]
            cells = [
                f"{statistics.median(one.accepted for one in rounds):.0f}",
                f"{statistics.median(one.delivered for one in rounds):.0f}",
                *(f"{statistics.median(one.cpu[group] for one in rounds):.1f}" for group in ("ours", "rabbitmq", "s3")),
            ]
            print(f"| {size} KB | {way} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
