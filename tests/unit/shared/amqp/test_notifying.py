"""The notification joins what is published anyway; nothing that is missing for it stops that."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY

from shared.amqp.notifying import Notifying
from shared.delivery.settings import RetrySettings
from shared.trouble import Unavailable
from shared.wire.message import Message
from tests.unit.shared.delivery.messages import KEYS, accepted, body, make_message, refused

CONTENT = b"Subject: offer\r\n\r\nhello\r\n"


class Shelf:
    """Gives a content, or something that is none, or trouble."""

    def __init__(self, found: object) -> None:
        self.found = found
        self.times = 0

    async def fetch(self, message: Message) -> object:
        """What was given."""
        self.times += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def notifying(found: object, **settings: Any) -> tuple[Notifying, Shelf]:
    """With a shelf that has ``found``."""
    shelf = Shelf(found)
    return Notifying(shelf.fetch, "me.example", RetrySettings(**settings), KEYS), shelf


def count() -> float:
    """Failures told so far."""
    return REGISTRY.get_sample_value("bounce_replies_total") or 0


async def test_it_is_published_with_the_result() -> None:
    one, shelf = notifying(CONTENT)
    before = count()
    outcome = refused(make_message())
    step = await one.add(make_message(), outcome)
    assert [published.key for published in step.publications] == ["failure", "dsn", "record"]
    assert step.publications[:1] == outcome.step.publications
    assert "\r\nSubject: offer\r\n" in body(step.publications[1])["mime"]
    assert (count() - before, shelf.times) == (1, 1)


async def test_nobody_to_tell() -> None:
    one, shelf = notifying(CONTENT)
    before = count()
    outcome = accepted(make_message())
    assert await one.add(make_message(), outcome) is outcome.step
    assert (count() - before, shelf.times) == (0, 0)


async def test_only_failures_are_counted() -> None:
    one, _ = notifying(CONTENT, dsn_notify="SUCCESS")
    before = count()
    step = await one.add(make_message(), accepted(make_message()))
    assert [published.key for published in step.publications] == ["success", "dsn", "record"]
    assert count() == before


@pytest.mark.parametrize("found", [None, object(), Unavailable("the store is down")])
async def test_without_the_content_it_goes_all_the_same(found: object) -> None:
    one, _ = notifying(found)
    step = await one.add(make_message(), refused(make_message()))
    mime = body(step.publications[1])["mime"]
    assert mime.count("\r\nContent-Type: ") == 3  # its own, the words, the status


async def test_what_follows_from_a_crash_is_the_same_again() -> None:
    one, _ = notifying(CONTENT)
    first, again = [await one.add(make_message(), refused(make_message())) for _ in range(2)]
    assert first.publications == again.publications
