"""The rules on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.router.settings import ServiceSettings
from services.router.snapshot import Snapshot
from shared.delivery.rules import parse_rule
from shared.storage.snapshot import Follower
from shared.trouble import Unavailable

RULES = [
    parse_rule({"name": "a", "priority": 1, "configuration": {"params": {"size_over": 7}, "outbound": ["smtp"]}}),
    parse_rule({"name": "b", "priority": 2, "configuration": {"params": {"tag": ["x", "y"]}, "outbound": ["seal", "smtp"]}}),
]


def test_they_come_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rules.json"
    snapshot = Snapshot(ServiceSettings(router_snapshot=path))
    snapshot.write(RULES)
    assert snapshot.read() == RULES
    snapshot.write([])
    assert snapshot.read() == []
    assert [one.name for one in path.parent.iterdir()] == ["rules.json"]


def test_none_that_can_be_read(tmp_path: Path) -> None:
    assert Snapshot(ServiceSettings(router_snapshot=tmp_path / "missing.json")).read() is None
    for text in ("", "[", '{"a": 1}', '[{"name": 7}]', "[1]", "7", "null"):
        broken = tmp_path / "broken.json"
        broken.write_text(text)
        assert Snapshot(ServiceSettings(router_snapshot=broken)).read() is None


def test_never_seen_is_not_the_same_as_none() -> None:
    with pytest.raises(Unavailable, match="never seen"):
        _ = Snapshot(ServiceSettings()).items


def test_a_rule_that_cannot_be_read_keeps_the_last_rules(tmp_path: Path) -> None:
    """Routing by the others could send in clear what it seals."""
    snapshot = Snapshot(ServiceSettings(router_snapshot=tmp_path / "rules.json"))
    good = [dict(rule.document) for rule in RULES]
    unreadable = {"name": "c", "priority": 0, "configuration": {"params": {}, "outbound": ["carrier-pigeon"]}}
    snapshot.take([*good, unreadable])
    with pytest.raises(Unavailable):
        _ = snapshot.items
    snapshot.take(good)
    snapshot.take([unreadable])
    assert snapshot.items == RULES


def follower(settings: ServiceSettings, snapshot: Snapshot) -> Follower:
    return Follower(settings, [snapshot], name="router", refresh=settings.router_refresh)


async def test_without_postgres_the_last_snapshot_counts(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    settings = ServiceSettings(db_uri="postgresql://nobody@127.0.0.1:1/nothing", router_snapshot=path)
    held = Snapshot(settings)
    await follower(settings, held).load()
    with pytest.raises(Unavailable):
        _ = held.items
    Snapshot(settings).write(RULES)
    going_on = Snapshot(settings)
    await follower(settings, going_on).load()
    assert going_on.items == RULES
