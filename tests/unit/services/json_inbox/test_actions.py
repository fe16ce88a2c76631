"""The options of a redrive."""

from typing import Any

import pytest

from services.json_inbox.actions import Redrive, parse_redrive
from services.json_inbox.intake import InvalidItem


def test_defaults() -> None:
    assert parse_redrive({"action": "redrive"}) == Redrive(limit=None, reason=None, dry_run=False)


def test_all_options() -> None:
    given = {"action": "redrive", "limit": 5, "reason": "not JSON", "dry-run": True}
    assert parse_redrive(given) == Redrive(limit=5, reason="not JSON", dry_run=True)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": True}, "limit"),
        ({"limit": "5"}, "limit"),
        ({"reason": ""}, "reason"),
        ({"reason": 5}, "reason"),
        ({"dry-run": "yes"}, "dry-run"),
    ],
)
def test_an_impossible_option_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidItem) as caught:
        parse_redrive({"action": "redrive", **options})
    assert caught.value.field == field
