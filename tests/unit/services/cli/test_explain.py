"""What ``mailwarren explain`` says."""

from pathlib import Path

import pytest

from services.cli.__main__ import call


@pytest.fixture(autouse=True)
def default_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RETRY_INTERVAL", "MAX_ATTEMPTS", "MAX_DELIVERTIME", "RESPONSE_PATTERNS"):
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


def test_the_shipped_rule_its_class_and_flags_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["explain", "450 4.2.0 <u@b.example>: Recipient address rejected: Greylisted", "--attempt", "3"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[2].startswith("rule          patterns.toml, pattern ")
    assert told[3:7] == [
        "  when        code 4xx, text greylist",
        "class         greylisted",
        "flags         greylisted = true",
        "verdict       tried again after 1800 s (±10% jitter)",
    ]
    assert told[7].startswith("next attempt  ")
    assert told[7].endswith(", number 4")
    assert told[8].startswith("expires       ")


def test_a_rule_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[[pattern]]\nname = "ours"\ndestination = "b.example"\nhost = "mx*"\nsource = "192.0.2.0/24"\ntag = "news"\n'
        'fatal = false\nindividual = false\ninterval = "2h"\ntags = ["slow"]\nset = { team = "abuse" }\n'
    )
    asked = ["explain", "550 5.1.1 no such user", "--patterns", str(mine), "--host", "mx.b.example", "--source", "192.0.2.7"]
    assert call([*asked, "--destination", "b.example", "--tag", "other", "--tag", "news"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[2] == f"rule          {mine}, pattern 1 (ours)"
    assert told[3] == "  when        destination b.example, host mx*, source 192.0.2.0/24, tag news"
    assert told[4].startswith("rule          patterns.toml, pattern ")
    assert told[5:11] == [
        "  when        text no such user",
        "class         bad-mailbox",
        "flags         fatal = false, individual = false",
        "tags          slow",
        "sets          team = abuse",
        "verdict       tried again after 7200 s (as the rule says)",
    ]
    assert call([*asked, "--destination", "c.example", "--tag", "news"]) == 0
    assert "verdict       failed: refused for good" in capsys.readouterr().out


def test_a_mistake_in_the_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[[pattern]]\nfatel = true\n")
    assert call(["explain", "550 x", "--patterns", str(mine)]) == 2
    assert f"{mine}, pattern 1: 'fatel': unknown; expected one of name, priority, state" in capsys.readouterr().err


def test_what_was_accepted_has_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["explain", "250 2.0.0 ok", "--state", "message"]) == 0
    told = capsys.readouterr().out
    assert "rule" not in told
    assert "class" not in told
