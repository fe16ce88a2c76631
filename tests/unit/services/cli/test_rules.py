"""Rules from options and files, and their test without a database."""

import json
from pathlib import Path

import pytest

from services.cli.__main__ import call
from services.cli.rule_options import build_rule, render_rules
from shared.delivery.rules import parse_rule
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


def test_what_would_be_rewritten_is_told_without_the_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite = {"smarthost": {"hostname": "relay.example", "password": "hunter2"}, "tags": ["x"], "pool": "bulk"}
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"name": "w", "configuration": {"outbound": ["smtp"], "rewrite": rewrite}}))
    message = tmp_path / "m.json"
    message.write_text(json.dumps({"recipient": "a@b.example", "tags": ["y"], "ips": ["192.0.2.1"], "mime": {"subject": "x"}}))
    assert call(["rules", "test", "--file", str(path), str(message)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "  rule w: matches",
        "goes to smtp: rule w",
        '  rewritten: smarthost = {"hostname":"relay.example","password":"***"}',
        "  rewritten: pool = bulk",
        "  rewritten: ips = (removed)",
        '  rewritten: tags = ["y","x"]',
    ]


def test_every_recipient_is_tried(rules: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = tmp_path / "m.json"
    mime = {"from": "a@b.example", "subject": "x", "text": "x" * 100}
    message.write_text(json.dumps({"recipients": ["a@clinic.example", "b@other.example"], "mime": mime}))
    assert call(["rules", "test", "--rules", rules, str(message), "--channel", "json"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    big = "goes to smtp, then seal: rule big"
    assert lines == ["to a@clinic.example:", big, "to b@other.example:", big]


def test_a_channel_that_is_none(rules: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["rules", "test", "--rules", rules, "--to", "a@b.example", "--channel", "http"]) == 2
    assert "--channel 'http': expected one of smtp, json, amqp, actions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "rewrite"),
    [
        (["tags=a", "tags=b", "ips=192.0.2.1"], {"tags": ["a", "b"], "ips": ["192.0.2.1"]}),
        (["smarthost=relay.example"], {"smarthost": {"hostname": "relay.example"}}),
        (["smarthost=relay.example:587"], {"smarthost": {"hostname": "relay.example", "port": 587}}),
        (["smarthost=[2001:db8::1]:26"], {"smarthost": {"hostname": "[2001:db8::1]", "port": 26}}),
        (["smarthost=2001:db8::1"], {"smarthost": {"hostname": "2001:db8::1"}}),
        (["nextattempt=600", "security=required"], {"nextattempt": 600, "security": "required"}),
        (["nextattempt=2026-03-01 12:00:00"], {"nextattempt": {"time": "2026-03-01 12:00:00"}}),
        (['headers={"remove": "X-A"}', "pool=bulk"], {"headers": {"remove": "X-A"}, "pool": "bulk"}),
    ],
    ids=str,
)
def test_a_rewrite_from_options(options: list[str], rewrite: dict[str, object]) -> None:
    document = build_rule("n", 0, [], "smtp", options)
    assert document["configuration"]["rewrite"] == rewrite
    assert parse_rule(document).rewrite == rewrite


@pytest.mark.parametrize("option", ["tags", "colour=red", "pool=a", "headers={", "headers=[]"])
def test_a_rewrite_of_the_wrong_form(option: str) -> None:
    with pytest.raises(BadSetting, match="--set"):
        build_rule("n", 0, [], "smtp", ["pool=b", option])


@pytest.mark.parametrize(
    "option", ["security=tls", "ips=x", "nextattempt=0", "nextattempt=99999999999999999999999", "smarthost=a:99999999"]
)
def test_a_rewrite_that_cannot_be_is_refused_before_it_is_stored(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["rules", "add", "n", "--outbound", "smtp", "--set", option]) == 2
    assert f"rule: configuration.rewrite.{option.partition('=')[0]}" in capsys.readouterr().err


def test_the_table_fits_on_a_screen() -> None:
    rewrite = {"headers": {"append": {"X-Long": "x" * 200}}, "smarthost": {"hostname": "r.example", "password": "hunter2"}}
    params = {"recipient_domain": [f"d{number}.example" for number in range(50)], "subject": "y" * 500}
    long = {
        "name": "n" * 200,
        "priority": -(2**31),
        "configuration": {"params": params, "outbound": ["seal", "smtp"], "rewrite": rewrite},
    }
    lines = render_rules([parse_rule(one) for one in (*RULES, long)], 80)
    assert max(map(len, lines)) <= 80
    assert lines[0] == f"priority     {'name':24}  outbound  when all match"
    assert " ".join(lines[1].split()).startswith("10 clinic seal recipient_domain =")
    told = " ".join(lines)
    assert "47 more" in told
    assert "hunter2" not in told
    assert "n" * 200 in "".join(line[13:37].strip() for line in lines)


def test_a_wrong_rule_in_a_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps([RULES[0], {"name": "x", "configuration": {"outbound": ["pigeon"]}}]))
    assert call(["rules", "add", "--file", str(path)]) == 2
    assert f"{path}: rule 2: configuration.outbound: 'pigeon'" in capsys.readouterr().err
