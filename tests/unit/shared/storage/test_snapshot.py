"""What notices say, and the copy of a long table on disk."""

from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path

import pytest

from shared.delivery.suppressions import Held
from shared.storage.snapshot import MOST_NAMES, join_names, parse_names, replace_file
from shared.storage.stop_book import SuppressionTable
from shared.trouble import Unavailable


@pytest.mark.parametrize(
    ("payload", "names"),
    [('["a", "b"]', {"a", "b"}), ("[]", set()), ("", None), ("x", None), ('{"a": 1}', None), ("7", None)],
    ids=["names", "none", "empty", "text", "object", "number"],
)
def test_the_names_in_a_notice(payload: str, names: Set[str] | None) -> None:
    assert parse_names(payload) == names


def test_notices_together() -> None:
    assert join_names({"a"}, {"b"}) == {"a", "b"}
    assert join_names(None, {"b"}) is None
    assert join_names({"a"}, None) is None
    assert join_names({str(number) for number in range(MOST_NAMES)}, {"x"}) is None


def test_a_long_table_comes_back_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "suppressions.jsonl"
    lines = ['{"name":"a@example.org","reason":"x"}\n', '{"name":"example.net","expires":"2027-01-01 00:00:00"}\n']
    replace_file(path, [line.encode() for line in lines])
    table = SuppressionTable(path)
    with pytest.raises(Unavailable, match="the suppressions were never seen"):
        _ = table.items
    table.restore()
    assert table.is_known
    assert table.items["a@example.org"] == Held("x")
    assert [{"name": name, **table.render(held)} for name, held in table.items.items()] == [
        {"name": "a@example.org", "reason": "x"},
        {"name": "example.net", "expires": "2027-01-01 00:00:00"},
    ]
    assert [one.name for one in path.parent.iterdir()] == ["suppressions.jsonl"]


def test_nobody_else_may_read_the_copy(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    for left in (path, tmp_path / f"rules.json.{os.getpid()}"):
        left.write_text("of an older version")
        left.chmod(0o644)
    replace_file(path, [b"[]"])
    assert path.read_bytes() == b"[]"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["[", "7\n", "[1]\n", '{"name": 7}\n', '{"reason": "x"}\n', '{"name": "a", "expires": "x"}\n'])
def test_a_copy_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "suppressions.jsonl"
    path.write_text(text)
    table = SuppressionTable(path)
    table.restore()
    assert not table.is_known
