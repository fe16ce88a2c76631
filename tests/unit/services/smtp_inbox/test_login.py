"""Who is let in, how long a no takes, and when nobody is asked any more."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

import services.smtp_inbox.login
from services.smtp_inbox.guessing import Guesses
from services.smtp_inbox.login import Answer, Authenticator
from services.smtp_inbox.users import UsersFile
from shared.log import get_logger
from shared.trouble import Unavailable
from tests.unit.services.smtp_inbox.test_users import cheap_hash


@pytest.fixture(autouse=True)
def new_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that another test has used keeps what that one had configured, and nothing can be captured."""
    monkeypatch.setattr(services.smtp_inbox.login, "log", get_logger())


CLIENT = "192.0.2.1"


@pytest.fixture
def users(tmp_path: Path) -> UsersFile:
    path = tmp_path / "users"
    path.touch(0o600)
    path.write_text(f"app:{cheap_hash('right')}\n")
    return UsersFile(path)


def limits(per_address: int = 100) -> Guesses:
    return Guesses(timedelta(seconds=600), per_address, 1000)


async def test_yes_and_no_and_what_is_logged(users: UsersFile) -> None:
    door = Authenticator(users, limits(), 0)
    with capture_logs() as logs:
        assert await door.decide("app", "right", CLIENT) is Answer.YES
        assert await door.decide("app", "wr0ng-secret", CLIENT) is Answer.NO
        assert await door.decide("typed-s3cret", "x", CLIENT) is Answer.NO
        assert await door.decide("", "", CLIENT) is Answer.NO
    assert [(line["event"], line["user"]) for line in logs] == [
        ("logged in", "app"),
        ("not logged in", "app"),
        ("not logged in", ""),  # may be a password in the wrong field
        ("not logged in", ""),
    ]
    assert "wr0ng-secret" not in str(logs)


async def test_a_no_takes_its_time_and_twice_as_long_the_next_time(users: UsersFile) -> None:
    door = Authenticator(users, limits(), 0.05)
    for least in (0.05, 0.1, 0.2, 0.4, 0.4):
        began = time.monotonic()
        await door.decide("nobody", "x", CLIENT)
        assert time.monotonic() - began >= least
    began = time.monotonic()
    assert await door.decide("app", "right", CLIENT) is Answer.YES
    assert time.monotonic() - began < 0.05 + 0.3


async def test_too_many_failures_are_refused_unheard_also_when_they_come_at_once(users: UsersFile) -> None:
    door = Authenticator(users, limits(3), 0.01)
    answers = await asyncio.gather(*(door.decide("app", "wrong", CLIENT) for _ in range(20)))
    assert answers.count(Answer.TOO_MANY_ADDRESS) == 20 - answers.count(Answer.NO)
    assert 3 <= answers.count(Answer.NO) <= 3 + users.slots
    assert await door.decide("app", "right", CLIENT) is Answer.TOO_MANY_ADDRESS
    assert await door.decide("app", "right", "192.0.2.2") is Answer.YES


@dataclass
class Slow:
    """A back-end that has to be waited for."""

    slots: int = 2
    asked: int = 0
    at_once: int = 0
    most: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def knows(self, name: str) -> bool:
        return True

    async def verify(self, name: str, password: str) -> bool:
        self.asked += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await self.may_answer.wait()
        self.at_once -= 1
        if password == "trouble":
            raise Unavailable("away")
        if password == "bug":
            raise KeyError(name)
        return True

    def reload(self) -> None:
        return

    async def close(self) -> None:
        return


async def test_the_back_end_is_asked_a_bounded_number_of_questions_and_the_queue_is_bounded() -> None:
    slow = Slow()
    door = Authenticator(slow, limits(), 0)
    asking = [asyncio.ensure_future(door.decide(f"user {number}", "x", CLIENT)) for number in range(250)]
    done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    assert {task.result() for task in done} == {Answer.UNAVAILABLE}
    slow.may_answer.set()
    assert {await task for task in waiting} == {Answer.YES}
    assert (len(waiting), slow.asked, slow.most) == (200, 200, 2)


@pytest.mark.parametrize("trouble", ["trouble", "bug"])
async def test_trouble_of_the_back_end_is_not_the_clients(trouble: str) -> None:
    slow = Slow()
    slow.may_answer.set()
    door = Authenticator(slow, limits(1), 0)
    for _ in range(3):
        assert await door.decide("app", trouble, CLIENT) is Answer.UNAVAILABLE
    assert await door.decide("app", "right", CLIENT) is Answer.YES


async def test_nobody_is_asked_about_no_name_or_no_password() -> None:
    slow = Slow()
    slow.may_answer.set()
    door = Authenticator(slow, limits(), 0)
    assert await door.decide("", "x", CLIENT) is Answer.NO
    assert await door.decide("x", "", CLIENT) is Answer.NO
    assert slow.asked == 0
