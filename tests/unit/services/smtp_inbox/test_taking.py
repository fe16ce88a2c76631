"""Headers that tell us how to deliver: who may use them, and that they never stay."""

import pytest

from services.smtp_inbox.taking import Instructed, take_instructions
from shared.acceptance import Streamed, Upload

CONTENT = b"Received: us\r\nX-MQ-MaxAttempts: 3\r\nSubject: x\r\n\r\nbody\r\n"
STRIPPED = b"Received: us\r\nSubject: x\r\n\r\nbody\r\n"


def test_a_client_that_may_relay() -> None:
    assert take_instructions(CONTENT, may_relay=True) == Instructed(STRIPPED, {"maxattempts": 3})
    assert take_instructions(STRIPPED, may_relay=True).content is STRIPPED


def test_what_cannot_be_understood_is_refused() -> None:
    refused = take_instructions(CONTENT.replace(b"3", b"three"), may_relay=True)
    assert refused.refusal == "550 5.5.2 X-MQ-MaxAttempts: 'three': expected a whole number from 0 to 2147483647"


def test_from_others_they_are_removed_unread() -> None:
    assert take_instructions(CONTENT, may_relay=False) == Instructed(STRIPPED)
    assert take_instructions(CONTENT.replace(b"3", b"three"), may_relay=False) == Instructed(STRIPPED)


@pytest.mark.parametrize("may_relay", [True, False], ids=["may relay", "others"])
def test_of_streamed_content_the_head_is_read(may_relay: bool) -> None:
    upload: Upload = Nothing()
    taken = take_instructions(Streamed(CONTENT[:-6], 1000, "sum", upload), may_relay=may_relay)
    assert taken == Instructed(Streamed(STRIPPED[:-6], 1000, "sum", upload), {"maxattempts": 3} if may_relay else {})


class Nothing:
    """An upload that nobody touches."""

    async def read(self) -> bytes:
        raise AssertionError

    async def commit(self, key: str) -> None:
        raise AssertionError
