"""What we take from a delivery, and what a park or a hold says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pamqp import commands

from shared.amqp.frame import Frame, parse_frame, render_hold, render_park
from shared.amqp.settings import BrokerSettings


def deliver(*, redelivered: bool = True, **properties: Any) -> Frame:
    return parse_frame(commands.Basic.Properties(**properties), b"body", tag=7, is_redelivered=redelivered)


def test_a_bare_delivery() -> None:
    assert deliver() == Frame(b"body", None, False, True, 0, None, None, 7)


def test_everything() -> None:
    headers = {"x-delivery-count": 3, "event": "retry", "x-death": [{}], "CC": ["x"]}
    frame = deliver(app_id="mailwarren", content_encoding="gzip", priority=5, headers=headers)
    assert frame == Frame(b"body", "gzip", True, True, 3, 5, "retry", 7)


@pytest.mark.parametrize("headers", [{"x-delivery-count": "3", "event": 7}, {"x-delivery-count": None, "event": None}, {}, None])
def test_headers_of_anybody(headers: Any) -> None:
    frame = deliver(headers=headers)
    assert (frame.delivery_count, frame.event) == (0, None)


def test_a_count_at_the_first_delivery_is_not_the_brokers() -> None:
    """An application that publishes a message again with all its headers must not have it parked."""
    assert deliver(redelivered=False, headers={"x-delivery-count": 99}).delivery_count == 0


@pytest.mark.parametrize("app_id", [None, "", "Mailwarren", "mailwarren ", "other"])
def test_who_is_not_ours(app_id: str | None) -> None:
    assert not deliver(app_id=app_id).is_ours


def test_a_park_says_where_why_and_when() -> None:
    frame = deliver(content_encoding="gzip", headers={"event": "retry", "x-death": [{}]})
    parked = render_park(BrokerSettings(rabbitmq_dead="graveyard"), frame, "outbox", "because" * 1000)
    assert (parked.key, parked.body, parked.encoding, parked.exchange) == ("graveyard", b"body", "gzip", None)
    assert set(parked.headers) == {"origin-queue", "reason", "time", "event"}
    assert (parked.headers["origin-queue"], parked.headers["event"]) == ("outbox", "retry")
    assert parked.headers["reason"] == ("because" * 1000)[:1024]
    age = datetime.now(UTC) - datetime.fromisoformat(parked.headers["time"])
    assert abs(age.total_seconds()) < 5


def test_a_hold_comes_home_unchanged() -> None:
    held = render_hold(deliver(priority=5, headers={"event": "success", "BCC": ["x"]}), "record")
    assert (held.exchange, held.key, held.body, held.priority) == ("wait.30s", "record", b"body", 5)
    assert held.headers == {"event": "success"}


@pytest.mark.parametrize("app_id", [None, "mailwarren"])
def test_neither_makes_a_foreign_message_ours(app_id: str | None) -> None:
    """Its id and attempts would be believed when it comes back."""
    frame = deliver(app_id=app_id)
    is_ours = app_id is not None
    assert render_park(BrokerSettings(), frame, "q", "r").is_ours is is_ours
    assert render_hold(frame, "k").is_ours is is_ours
