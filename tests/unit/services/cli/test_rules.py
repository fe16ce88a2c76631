"""Rules from options and files, and their test without a database."""

import json
from pathlib import Path

import pytest

from services.cli.__main__ import call
from services.cli.rules import build_rule
from shared.trouble import BadSetting

RULES = [
    {
        "name": "clinic",
        "priority": 10,
        "configuration": {"params": {"recipient_domain": ["clinic.example"]}, "outbound": ["seal"]},
    },
    {"name": "big", "priority": 5, "configuration": {"params": {"size_over": 100}, "outbound": ["smtp", "seal"]}},
]


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(RULES))
    return str(path)


def test_the_same_parameter_twice_means_any_of_them() -> None:
    built = build_rule("n", 3, ["sender=a@*", "sender=b@*", "header.X-A=1=2", "size_over=5"], "seal, smtp")
    assert built == {
        "name": "n",
        "priority": 3,
        "configuration": {
            "params": {"sender": ["a@*", "b@*"], "header.X-A": ["1=2"], "size_over": 5},
            "outbound": ["seal", "smtp"],
        },
    }


@pytest.mark.parametrize("param", ["sender", "=x", "size_over=big", "size_over=²"])
def test_a_parameter_of_the_wrong_form(param: str) -> None:
    with pytest.raises(BadSetting, match="--param"):
        build_rule("n", 0, [param], "smtp")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--to", "a@clinic.example"], 0, "goes to seal: rule clinic"),
        (["--to", "a@clinic.example", "--size", "101"], 0, "goes to smtp, then seal: rule big"),
        (["--to", "a@example.org"], 0, "goes to smtp: no rule matches: router-default is smtp"),
        (["--to", "a@example.org", "--router-default", "fail"], 1, "goes to nobody: it fails"),
        (["--to", "a@clinic.example", "--strategy", "smtp"], 0, "goes to smtp: the message asks for smtp"),
    ],
)
def test_which_way(rules: str, arguments: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["rules", "test", "--rules", rules, *arguments]) == code
    *passed, last = capsys.readouterr().out.splitlines()
    assert last.startswith(told)
    assert [line.split(":")[0] for line in passed] == ["  rule big", "  rule clinic"]


def test_a_message_file_is_read(rules: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mail = tmp_path / "mail.eml"
    mail.write_text("From: a@example.com\nTo: a@clinic.example\n\nx")
    assert call(["rules", "test", str(mail), "--rules", rules]) == 0
    assert "goes to seal: rule clinic" in capsys.readouterr().out


def test_a_wrong_rule_in_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([RULES[0], {"name": "x", "configuration": {"outbound": ["pigeon"]}}]))
    assert call(["rules", "add", "--file", str(path)]) == 2
    assert f"{path}: rule 2: configuration.outbound: 'pigeon'" in capsys.readouterr().err
