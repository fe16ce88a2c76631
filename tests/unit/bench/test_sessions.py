"""The share of reused sessions, from the text of /metrics."""

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from tests.bench.sessions import Sessions, parse_sessions


def make_metrics(opened: int, reused: int) -> str:
    registry = CollectorRegistry()
    Counter("smtp_sessions_opened", "…", registry=registry).inc(opened)
    Counter("smtp_sessions_reused", "…", registry=registry).inc(reused)
    return generate_latest(registry).decode()


def test_the_counts_of_all_processes_are_added() -> None:
    assert parse_sessions([make_metrics(3, 97), make_metrics(2, 1_000_000)]) == Sessions(5, 1_000_097)


def test_a_process_that_has_sent_nothing_counts_nothing() -> None:
    assert parse_sessions(["# HELP something else\n"]) == Sessions(0, 0)


@pytest.mark.parametrize(
    ("opened", "reused", "share"),
    [(10, 100, None), (15, 195, 0.95), (11, 100, 0.0), (10, 101, 1.0)],
)
def test_the_share_is_that_of_what_came_since(opened: int, reused: int, share: float | None) -> None:
    assert Sessions(opened, reused).find_share(Sessions(10, 100)) == share
