"""Which RabbitMQ is too old to keep the promises."""

import pytest

from shared.amqp.connection import is_too_old


@pytest.mark.parametrize(
    ("version", "too_old"),
    [
        ("3.9.13", True),
        ("3.10.0", False),
        ("3.10.8", False),
        ("3.13.7", False),
        ("4.0.5", False),
        ("2.8.1", True),
        ("master", False),
    ],
)
def test_versions(version: str, too_old: bool) -> None:
    assert is_too_old(version) is too_old
