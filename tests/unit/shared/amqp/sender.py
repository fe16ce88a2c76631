"""A sender without a network: the order of work around an attempt that a test makes up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared.amqp.delivering import Delivering
from shared.amqp.frame import Frame
from shared.amqp.notifying import Notifying
from shared.amqp.once import Once
from shared.delivery.patterns_file import load_patterns
from shared.delivery.settings import RetrySettings
from shared.process import Runtime
from shared.storage.journal import FileJournal
from shared.wire.message import Message
from shared.wire.publication import Step
from tests.unit.shared.delivery.messages import KEYS


async def fetch(message: Message) -> bytes:
    """The content of every mail."""
    return b"Subject: x\r\n\r\nhello\r\n"


async def deliver(folder: Path, frame: Frame, **given: Any) -> Step:
    """The step of a process that dies before the step is published. ``given``: ``attempt``, and what else differs of ``Delivering``."""
    settings, journal = RetrySettings(), FileJournal(folder)
    delivering = Delivering(
        strategy="smtp",
        home="outbox",
        once=Once(journal),
        settings=settings,
        keys=KEYS,
        runtime=Runtime("test"),
        notifying=Notifying(fetch, "me.example", settings, KEYS),
        patterns=load_patterns(""),
        **given,
    )
    try:
        return await delivering.handle(frame)
    finally:
        journal.close()
