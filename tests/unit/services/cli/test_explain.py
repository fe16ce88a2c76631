"""What ``mailwarren explain`` says."""

import pytest

from services.cli.__main__ import call


@pytest.fixture(autouse=True)
def default_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RETRY_INTERVAL", "MAX_ATTEMPTS", "MAX_DELIVERTIME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (
            ["451 4.7.1 try later", "--attempt", "3"],
            [
                "reply         451 4.7.1 try later",
                "result        rcptto/error, attempt 3",
                "verdict       tried again after 1800 s",
            ],
        ),
        (["550 5.1.1 no such user"], ["verdict       failed: refused for good"]),
        (["535 5.7.8 no", "--smarthost", "--state", "rcptto"], ["verdict       tried again after 600 s"]),
        (["250 2.0.0 ok", "--state", "message"], ["result        message/accepted, attempt 1", "verdict       delivered"]),
        (
            ["timeout", "--state", "MESSAGE"],
            ["reply         451 4.4.2 No reply in time", "verdict       tried again after 600 s"],
        ),
        (["550-5.1.1 first\\n550 5.1.1 second"], ["verdict       failed: refused for good"]),
        (["450 x", "--attempt", "2", "--max-attempts", "2"], ["verdict       failed: attempt 2 was the last of 2"]),
        (
            ["450 x", "--max-delivertime", "5m"],
            [
                "reply         450 x (no enhanced status)",
                "verdict       failed: the next attempt would come after the mail has expired",
            ],
        ),
        (["450 x", "--attempt", "9", "--retry-interval", "5,10"], ["verdict       tried again after 10 s"]),
    ],
    ids=lambda value: " ".join(value[:1]),
)
def test_verdicts(arguments: list[str], lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["explain", *arguments]) == 0
    told = capsys.readouterr().out.splitlines()
    assert all(any(line.startswith(wanted) for line in told) for wanted in lines), told


def test_times_follow_from_when_it_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["explain", "450 x", "--seen", "2020-01-01 00:00:00"]) == 0
    assert "expires       2020-01-02 00:00:00" in capsys.readouterr().out
