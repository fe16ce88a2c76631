"""docs/webhooks.md: the receivers on the page take what is signed with their secret, and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.__main__ import call
from tests.support.pages import find_block
from tests.support.waiting import free_ports, wait_until


def _answers(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(("beginning", "program"), [("import base64", [sys.executable]), ("import { createHmac", ["node"])])
def test_a_receiver_of_the_page(
    beginning: str,
    program: list[str],
    database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DB_URI", database)
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}/mail-events"
    assert call(["webhooks", "add", "shop", "--url", url]) == 0
    secret = capsys.readouterr().out.strip()
    block = find_block("webhooks.md", beginning)
    script = tmp_path / f"receiver.{'py' if block.language == 'python' else 'mjs'}"
    script.write_text(block.having({"8099": str(port)}))
    said = tmp_path / "said"
    with said.open("wb") as out:
        receiver = subprocess.Popen(
            [*program, str(script)], env={**os.environ, "SECRET": secret}, stdout=out, stderr=subprocess.DEVNULL
        )
    try:
        wait_until(lambda: _answers(port), within=20)
        test = ["webhooks", "test", "shop", "--webhook-allow-http", "--webhook-allow-private", "127.0.0.1/32"]
        assert call(test) == 0, capsys.readouterr()
        assert capsys.readouterr().out == "shop: taken\n"
        wait_until(lambda: said.read_text().startswith("test "), within=10)
        # Another secret, and nothing is believed.
        other = tmp_path / "other"
        other.write_text("whsec_" + "QUJD" * 10)
        assert call(["webhooks", "add", "shop", "--url", url, "--secret-file", str(other)]) == 0
        assert call(test) == 1
        assert capsys.readouterr().out == "shop: failed: it answered 401\n"
        assert len(said.read_text().splitlines()) == 1
    finally:
        receiver.terminate()
        receiver.wait(10)
