"""Every golden file: what comes in leads to exactly what the file says is published, compared as parsed JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.wire.message import OURS
from tests.golden.life import FILES, live, read

WRITTEN_BY_US = OURS | {"nextattempt", "delayed", "maxdelivertime"}
PAYLOAD = {"mime", "mime64", "key"}


def test_there_are_files() -> None:
    assert len(FILES) >= 8


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_life(path: Path) -> None:
    told = read(path)
    assert live(told) == told["published"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_whatever_the_client_wrote_comes_back_equal(path: Path) -> None:
    """Independent of the expected part: everything that is not ours is the same in every publication."""
    told = read(path)
    client: dict[str, Any] = {name: value for name, value in told["message"].items() if name not in WRITTEN_BY_US | PAYLOAD}
    for step in told["published"]:
        for publication in step["publications"]:
            body = publication["body"]
            assert {name: body[name] for name in client} == client
            assert len(body["results"]) >= 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_message_ends(path: Path) -> None:
    verdicts = [step["verdict"] for step in read(path)["published"]]
    assert verdicts[-1] in ("sent", "failed")
    assert len(verdicts) == len(read(path)["attempts"]) or "invalid" in path.stem
