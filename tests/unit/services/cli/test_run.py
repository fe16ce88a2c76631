"""The arguments of ``mailwarren run``."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.run import SERVICES, check_names, parse_arguments
from services.cli.workers import metrics_address, own_options
from shared.amqp.settings import BrokerSettings
from shared.settings import Settings, load
from shared.trouble import BadSetting


def flags(service: str) -> frozenset[str]:
    assert service in SERVICES
    return frozenset({"rabbitmq-declare"})


def test_every_form() -> None:
    request = parse_arguments(
        ["router", "--workers", "3", "--config", "a.toml", "--rabbitmq-qos=5", "--log-level", "debug", "--rabbitmq-declare"],
        flags,
    )
    assert (request.service, request.workers, request.config) == ("router", 3, Path("a.toml"))
    assert request.options == {"rabbitmq-qos": "5", "log-level": "debug", "rabbitmq-declare": "true"}


def test_underscores_and_an_empty_value() -> None:
    request = parse_arguments(["smtp_sender", "--rabbitmq-success", "", "--rabbitmq-declare", "--rabbitmq-failure="], flags)
    assert request.service == "smtp-sender"
    assert request.options == {"rabbitmq-success": "", "rabbitmq-declare": "true", "rabbitmq-failure": ""}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "SERVICE is missing: expected one of smtp-inbox, json-inbox, router"),
        (["--help", "--log-level", "debug"], "SERVICE is missing"),
        (["postfix"], "no service 'postfix': expected one of smtp-inbox"),
        (["router", "archiver"], "'archiver': expected one SERVICE"),
        (["router", "-x"], "unknown option '-x'"),
        (["router", "--log-level"], "--log-level: expected a value behind it"),
        (["router", "--log-level", "--config", "x"], "--log-level: expected a value behind it"),
        (["router", "--workers", "many"], "--workers: 'many': expected a number from 1 to 256"),
        (["router", "--workers=0"], "--workers: '0'"),
        (["router", "--log-level=info", "--log-level=debug"], "--log-level is given twice"),
    ],
)
def test_what_is_wrong_is_told(arguments: list[str], told: str) -> None:
    with pytest.raises(BadSetting) as caught:
        parse_arguments(arguments, flags)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("address", "number", "expected"),
    [
        ("127.0.0.1:9100", 0, "127.0.0.1:9100"),
        ("127.0.0.1:9100", 3, "127.0.0.1:9103"),
        ("[::1]:9100", 1, "[::1]:9101"),
        ("127.0.0.1:0", 2, "127.0.0.1:0"),
        ("", 2, ""),
    ],
)
def test_each_worker_has_a_port_of_its_own(address: str, number: int, expected: str) -> None:
    assert metrics_address(address, number) == expected


def test_a_process_does_not_carry_the_command_line() -> None:
    code = (
        "import sys; from services.cli.__main__ import call; call(['run', 'router', '--settings'])\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'typer', 'rich', 'click', 'httpx', 'fastapi', 'sqlalchemy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_name_that_no_process_knows_is_a_typing_error(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('retry-interval = "5"\nhttp-listen = "127.0.0.1:1"\n')
    check_names(config)
    config.write_text("retry-intervall = 5\n")
    with pytest.raises(BadSetting, match="unknown setting 'retry-intervall'"):
        check_names(config)


def test_what_a_worker_is_told_of_its_own() -> None:
    settings = load(BrokerSettings, options={"rabbitmq-consumer-priority": "5", "metrics-addr": "127.0.0.1:9000"}).settings
    assert own_options(settings, 0) == {"metrics-addr": "127.0.0.1:9000", "rabbitmq-consumer-priority": "5"}
    assert own_options(settings, 7) == {"metrics-addr": "127.0.0.1:9007", "rabbitmq-consumer-priority": "-2"}
    assert own_options(load(Settings, options={"metrics-addr": ""}).settings, 1) == {"metrics-addr": ""}
