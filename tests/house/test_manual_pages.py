"""Every process has a manual page, and what it says of RabbitMQ is so in topology.json."""

import importlib
import re
from functools import cache
from pathlib import Path

import pytest

from services.cli.run import SERVICES, find_settings
from shared.amqp.topology.default import (
    APPLICATIONS,
    DEAD,
    MAIN,
    OPTIONAL_READERS,
    OPTIONAL_WAITS,
    READERS,
    WAITS,
    find_default_topology,
    read_default_topology,
)
from shared.amqp.topology.objects import Topology
from shared.amqp.topology.parse import parse_topology
from shared.amqp.topology.routing import find_queues

ROOT = Path(__file__).resolve().parents[2]
FIELDS = ("Consumes", "Publishes", "Touches", "Decides", "If killed", "Standards")
FOLDERS = sorted(path.name for path in (ROOT / "services").iterdir() if (path / "__main__.py").exists() and path.name != "cli")


@cache
def read_whole_topology() -> Topology:
    """What we ship, with the part that is optional."""
    optional = parse_topology((ROOT / "topology-webhook.json").read_text())
    return Topology((*read_default_topology().objects, *optional.objects), optional.warnings)


@cache
def read_manual(folder: str) -> str:
    return importlib.import_module(f"services.{folder}").__doc__ or ""


def read_names(folder: str, field: str) -> list[str]:
    """The names in the first column of a field (``Publishes  success failure      result, final``)."""
    names: list[str] = []
    current = ""
    for line in read_manual(folder).splitlines():
        head = re.match(r"([A-Z][a-z]+(?: [a-z]+)?) {2,}", line)
        current = head[1] if head else current
        if current == field and (text := line[len(head[0]) :] if head else line.strip()):
            column = re.split(r" {2,}", text)[0].split()
            names += [] if column[:1] in (["nothing"], ["-"]) else column
    return names


def test_the_processes_are_the_folders() -> None:
    assert [name.replace("_", "-") for name in FOLDERS] == sorted(SERVICES)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_page_has_every_field_in_order(folder: str) -> None:
    manual = read_manual(folder)
    assert manual.startswith(f"{folder.replace('_', '-')}: ")
    found = re.findall(r"^([A-Z][a-z]+(?: [a-z]+)?) {2,}\S", manual, re.MULTILINE)
    assert tuple(found) == FIELDS


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_consumed_is_a_queue(folder: str) -> None:
    queues = {queue.name for queue in read_whole_topology().queues}
    names = read_names(folder, "Consumes")
    for name in names:
        assert name in queues
        assert {**READERS, **OPTIONAL_READERS}[name] == folder.replace("_", "-")
    if names:
        assert find_settings(folder).model_fields["rabbitmq_queue"].default == names[0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_published_leads_into_a_queue(folder: str) -> None:
    topology = read_whole_topology()
    for name in read_names(folder, "Publishes"):
        if name in ("wait.*", "webhook.wait.*") or name in WAITS:
            continue
        assert find_queues(topology.exchanges, topology.bindings, MAIN, name), name


def test_some_names_were_read() -> None:
    assert "retries" in read_names("smtp_sender", "Publishes")
    assert {name for folder in FOLDERS for name in read_names(folder, "Consumes")} == {*READERS, *OPTIONAL_READERS}


def test_every_queue_has_a_reader() -> None:
    known = {*READERS, *APPLICATIONS, *WAITS, DEAD}
    assert {queue.name for queue in read_default_topology().queues} == known


def test_the_optional_part_binds_its_own_queues_only() -> None:
    optional = parse_topology((ROOT / "topology-webhook.json").read_text())
    names = {*OPTIONAL_READERS, *OPTIONAL_WAITS}
    assert {queue.name for queue in optional.queues} == names
    assert {binding.destination for binding in optional.bindings} == names
    records, batches = optional.queues[:2]
    # Copies of records: when nobody reads them the oldest go, and mail is not stopped by a full disk.
    assert (records.arguments["x-overflow"], records.arguments["x-max-length"]) == ("drop-head", 100_000)
    assert records.arguments["x-max-length-bytes"] == 256 * 1024 * 1024
    assert (batches.arguments["x-delivery-limit"], batches.arguments["x-dead-letter-routing-key"]) == (20, DEAD)


def test_no_queue_is_without_limit_or_drops_mail() -> None:
    """Never -1 (the opposite on 3.10), never a string (silently none); work queues lead to ``dead``."""
    for queue in read_default_topology().queues:
        limit = queue.arguments["x-delivery-limit"]
        assert type(limit) is int
        assert limit == (20 if queue.name in READERS else 1_000_000)
        assert (queue.durable, queue.kind) == (True, "quorum")
        if queue.name in READERS:
            assert queue.arguments["x-dead-letter-exchange"] == MAIN
            assert queue.arguments["x-dead-letter-routing-key"] == DEAD
        if queue.name in WAITS:
            assert queue.arguments["x-dead-letter-strategy"] == "at-least-once"
            assert queue.arguments["x-overflow"] == "reject-publish"
            assert "x-dead-letter-routing-key" not in queue.arguments


def test_the_shipped_file_is_the_one_of_the_checkout() -> None:
    assert find_default_topology() == ROOT / "topology.json"
    assert read_default_topology().warnings == ()
