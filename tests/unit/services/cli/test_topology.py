"""``mailwarren topology`` without a broker."""

import io
import json
from pathlib import Path

import pytest

from services.cli.__main__ import call
from shared.amqp.topology.complete import complete
from shared.amqp.topology.default import read_default_topology
from shared.amqp.topology.objects import Topology
from shared.amqp.topology.parse import parse_topology


def give(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_complete_prints_a_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    give(monkeypatch, b'[{"type": "queue", "name": "outbox", "arguments": {"max-length": 1}}]')
    assert call(["topology", "complete"]) == 0
    said = capsys.readouterr()
    whole = parse_topology(said.out)
    assert whole.objects[0].to_document()["name"] == "outbox"
    assert len(whole.objects) == len(complete(Topology(()), read_default_topology()).objects)
    assert said.err.count("warning: ") == 2


def test_show_writes_text_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["topology", "show"]) == 0
    assert "record               ──▶ queue records" in capsys.readouterr().out
    svg, png = tmp_path / "map.svg", tmp_path / "map.png"
    assert call(["topology", "show", "--svg", str(svg), "--png", str(png)]) == 0
    assert capsys.readouterr().out == ""
    assert svg.read_text().startswith("<svg ")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert call(["topology", "show", "--svg", str(tmp_path / "nowhere" / "map.svg")]) == 2


def test_dry_run_needs_no_broker(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    give(
        monkeypatch,
        json.dumps([{"type": "queue", "name": "a"}, {"type": "exchange", "name": "b", "exchangetype": "fanout"}]).encode(),
    )
    assert call(["amqpinit", "--dry-run", "amqp://127.0.0.1:1/"]) == 0
    assert capsys.readouterr().out == "would declare queue 'a'\nwould declare exchange 'b'\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'[{"type": "queue"}]', "mailwarren: standard input: line 1, column 2: queue: the field 'name' is missing\n"),
        (b"\xff", "mailwarren: standard input: byte 1: not UTF-8\n"),
    ],
)
def test_a_wrong_file_declares_nothing(
    content: bytes, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, content)
    assert call(["amqpinit", "amqp://127.0.0.1:1/"]) == 2
    assert capsys.readouterr().err == told
