"""The command as a whole: exit codes, one line for what is wrong, help that teaches."""

import re

import pytest

from services.cli.__main__ import call
from services.cli.run import SERVICES
from shared.settings import spell


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RABBITMQ_ADDRESS", "RABBITMQ_API", "DB_URI", "RETRY_INTERVAL", "MAX_ATTEMPTS", "MAX_DELIVERTIME", "LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")


COMMANDS = (
    ["migrate"],
    ["amqpinit"],
    ["topology", "check"],
    ["topology", "diff"],
    ["topology", "complete"],
    ["topology", "show"],
    ["send"],
    ["results"],
    ["show"],
    ["rules", "list"],
    ["rules", "add"],
    ["rules", "remove"],
    ["rules", "test"],
    *(
        [group, command]
        for group in ("pools", "suppressions", "pauses", "errors", "tokens")
        for command in ("list", "add", "remove")
    ),
    *(["users", command] for command in ("list", "add", "remove", "verify")),
    ["redrive"],
    ["explain"],
    ["archive"],
)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(re.search(rf"^  {command[0]}\b", told, re.MULTILINE) for command in (*COMMANDS, ["run"]))
    assert "mailwarren amqpinit amqp://localhost/ < topology.json" in told


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call([*command, "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"Usage: mailwarren {' '.join(command)}")


@pytest.mark.parametrize("service", SERVICES)
def test_every_process_has_a_manual_page(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", service, "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{service}: ")
    assert "\nConsumes " in told
    assert "\nIf killed " in told
    assert "\n  --metrics-addr 127.0.0.1:" in told


@pytest.mark.parametrize("service", SERVICES)
def test_settings_show_value_and_origin_and_no_secret(
    service: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.cli.run import find_settings

    monkeypatch.setenv("RABBITMQ_ADDRESS", "amqp://me:hushhush@localhost/")
    monkeypatch.setenv("DB_URI", "postgresql://me:hushhush@localhost/mail")
    assert call(["run", service, "--settings", "--log-level", "debug"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^log-level +debug +command line +debug, info, warning or error$", told, re.MULTILINE)
    assert "hushhush" not in told
    rows = {line.split()[0] for line in told.splitlines() if line[:1].strip()}
    assert rows == {"setting", *(spell(name) for name in find_settings(service).model_fields)}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nope"], "mailwarren: No such command 'nope'."),
        (["topology", "nope"], "mailwarren: No such command 'nope'."),
        (["run", "nope"], "mailwarren run: no service 'nope': expected one of smtp-inbox"),
        (["show"], "mailwarren: Missing argument 'MESSAGE-ID'."),
        (["migrate", "--nope"], "mailwarren: No such option: --nope"),
        (["migrate", "--db-uri", "mysql://x"], "mailwarren: db-uri: 'mysql://x' (from command line): "),
        (["migrate", "--config", "/nope.toml"], "mailwarren: --config /nope.toml: No such file"),
        (["amqpinit", "http://x"], "mailwarren: "),
        (["topology", "check", "/nope.json"], "mailwarren: /nope.json: No such file or directory"),
        (["topology", "diff"], "mailwarren: rabbitmq-api is not set"),
        (["topology", "check", "--rabbitmq-address", "amqp://"], "mailwarren: rabbitmq-address: 'amqp://'"),
        (["send", "--via", "pigeon", "--to", "a@example.org"], "mailwarren: --via 'pigeon': expected smtp, http, amqp"),
        (["send", "--to", "a@@example.org", "--subject", "x"], "mailwarren: --to 'a@@example.org': "),
        (["send", "--subject", "x"], "mailwarren: --to is missing"),
        (["send", "--to", "a@example.org", "--text", "x", "/nope.eml"], "mailwarren: either FILE or"),
        (["results", "retries"], "mailwarren: 'retries': expected success or failure"),
        (["results", "success"], "mailwarren: without --follow results are read from Postgres"),
        (["rules", "add"], "mailwarren: NAME is missing"),
        (["rules", "add", "x", "--param", "sender"], "mailwarren: --param 'sender': expected NAME=PATTERN"),
        (
            ["rules", "add", "x", "--param", "colour=red", "--outbound", "smtp"],
            "mailwarren: rule: configuration.params.colour: unknown",
        ),
        (["rules", "add", "x"], "mailwarren: rule: configuration.outbound: []: expected a list"),
        (["explain", "hello"], "mailwarren: "),
        (["explain", "450 x", "--state", "nowhere"], "mailwarren: --state 'nowhere': expected one of process"),
        (["explain", "450 x", "--attempt", "0"], "mailwarren: Invalid value for '--attempt'"),
        (["explain", "450 x", "--retry-interval", "soon"], "mailwarren: retry-interval: "),
        (["archive"], "mailwarren: expected --once"),
        (["redrive", "--limit", "0"], "mailwarren: Invalid value for '--limit'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert call(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(told)
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "x", "--db-uri", "postgresql://x@127.0.0.1:1/x"], "Postgres: "),
        (["topology", "check", "--rabbitmq-address", "amqp://127.0.0.1:1/"], "RabbitMQ does not answer at amqp://127.0.0.1:1/"),
        (["redrive", "--rabbitmq-address", "amqp://me:hushhush@127.0.0.1:1/"], "RabbitMQ"),
        (["send", "--to", "a@example.org", "--text", "x", "--smtp-inbox-address", "127.0.0.1:1"], "SMTP inbox at 127.0.0.1:1: "),
        (
            ["send", "--via=http", "--to=a@example.org", "--text=x", "--http-address=http://127.0.0.1:1"],
            "HTTP inbox at http://127",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_server_that_is_down_is_one_line_and_exit_code_1(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.amqp.redrive.PATIENCE", 0.0)
    assert call(arguments) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"mailwarren: {told}")
    assert said.err.count("\n") == 1
    assert "hushhush" not in said.err
