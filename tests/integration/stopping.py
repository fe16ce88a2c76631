"""smtp-sender and json-inbox at work on one database: what is kept over HTTP is obeyed by the sender."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from services.cli.__main__ import call
from tests.integration.world import World, at_work
from tests.stack import Stack
from tests.support.waiting import wait_until

PROMPT = 5.0
"""Seconds within which a change is known: one, and what a busy host adds."""


class Desk:
    """Mail goes out through ``world``; what stops it is managed over ``http``."""

    def __init__(self, world: World, http: httpx.Client, database: str) -> None:
        self.world = world
        self.http = http
        self.database = database

    def add(self, path: str, document: Any) -> str:
        """Keep it, and wait until the sender knows; where it is."""
        answer = self.http.post(path, json=document)
        assert answer.status_code in (200, 201), answer.text
        self.wait_known(path)
        return str(answer.headers.get("location"))

    def remove(self, where: str) -> None:
        """Remove it, and wait until the sender knows."""
        assert self.http.delete(where).status_code == 204
        self.wait_known("/v1/" + where.split("/")[2])

    def wait_known(self, path: str) -> None:
        """Until the sender knows as many entries as there are."""
        gauge = {"/v1/suppressions": "stops_suppressions", "/v1/pauses": "stops_pauses", "/v1/errors": "stops_forced_errors"}[
            path
        ]
        expected = len(self.http.get(path).json())
        wait_until(lambda: metric(self.world.stack, gauge) == expected, within=PROMPT, what=f"{gauge} is {expected}")

    def said(self) -> int:
        """How many commands the MX has heard, but for the end of a connection at rest."""
        return sum(side == "C" and not line.startswith("QUIT") for _, side, line in self.world.mx.state.transcript)

    def clear(self) -> None:
        """Nothing stops any mail."""
        with psycopg.connect(self.database) as connection:
            connection.execute("DELETE FROM suppressions")
            connection.execute("DELETE FROM pauses")
            connection.execute("DELETE FROM errors")
        for path in ("/v1/suppressions", "/v1/pauses", "/v1/errors"):
            self.wait_known(path)


def metric(stack: Stack, name: str) -> float:
    """Of the one smtp-sender."""
    text = httpx.get(f"http://{stack.env['METRICS_SMTP_SENDER'].split(',')[0]}/metrics").text
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found, f"{name}: not among the metrics"
    return float(found[1])


@contextmanager
def open_desk(servers: Stack, template: str, folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Desk]:
    """Both processes on the shared servers; retries come after a second."""
    given = {"RETRY_INTERVAL": "1", "HOST_REST": "0", **(settings or {})}
    with at_work(servers, template, folder, "smtp-sender", given) as world:
        world.stack.start("json-inbox")
        with httpx.Client(base_url=world.stack.env["HTTP_ADDRESS"], timeout=60) as http:
            yield Desk(world, http, world.stack.env["DB_URI"])


class Command:
    """``mailwarren`` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """(exit code, standard output, standard error)."""
        code = call(list(arguments))
        return (code, *self._capsys.readouterr())
