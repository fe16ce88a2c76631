"""Which settings the stack chooses, and which the caller does."""

import shlex
from pathlib import Path

import pytest

from deploy.stack.addresses import choose_listeners, choose_metrics, choose_settings, copy_names, render_shell, tell_listener
from deploy.stack.places import StackError
from deploy.stack.services import OPTIONAL, SERVICES, parse_scale

OWN = {"RABBITMQ_ADDRESS": "amqp://own", "RABBITMQ_API": "http://own", "DB_URI": "postgresql://own"}


def test_the_callers_settings_win_over_the_stacks_own() -> None:
    given = {"STORAGE_URL": "s3://bucket", "OUTBOUND_SEAL_ADDR": "http://seal", "HOME": "/home/me"}
    assert choose_settings(given, OWN, Path("/x/.run"), 7000) == {
        **OWN,
        "STORAGE_URL": "s3://bucket",
        "OUTBOUND_SEAL_ADDR": "http://seal",
        "JOURNAL_DIR": "/x/.run/journal",
        "ACCEPTED_DIR": "/x/.run/accepted",
        "LOCALS_SNAPSHOT": "/x/.run/locals.json",
        "POOLS_SNAPSHOT": "/x/.run/pools.json",
        "ROUTER_SNAPSHOT": "/x/.run/rules.json",
        "STOPS_SNAPSHOT": "/x/.run/stops",
        "TOKENS_SNAPSHOT": "/x/.run/tokens.json",
        "WEBHOOK_SNAPSHOT": "/x/.run/webhooks.json",
    }


def test_webhook_is_fed_when_it_runs_and_not_otherwise() -> None:
    services = [SERVICES["result-recorder"], OPTIONAL["webhook"]]
    assert choose_settings({}, OWN, Path("/x"), 7000, services)["RABBITMQ_WEBHOOK"] == "webhook"
    assert choose_settings({"RABBITMQ_WEBHOOK": "mine"}, OWN, Path("/x"), 7000, services)["RABBITMQ_WEBHOOK"] == "mine"
    assert "RABBITMQ_WEBHOOK" not in choose_settings({}, OWN, Path("/x"), 7000, services[:1])


def test_without_settings_of_the_caller_the_message_store_is_in_the_stacks_folder() -> None:
    chosen = choose_settings({}, OWN, Path("/x y/.run"), 7000)
    assert chosen["STORAGE_URL"] == "dir:///x y/.run/payloads"
    assert chosen["OUTBOUND_SEAL_ADDR"] == "http://127.0.0.1:7000"


def test_a_foreign_broker_is_not_mixed_with_our_management_api() -> None:
    given = {"RABBITMQ_ADDRESS": "amqp://theirs"}
    chosen = choose_settings(given, {"DB_URI": "postgresql://own"}, Path("/x"), 7000)
    assert chosen["RABBITMQ_ADDRESS"] == "amqp://theirs"
    assert "RABBITMQ_API" not in chosen


def test_an_inbox_listens_where_the_caller_says_and_the_user_is_told_that_address() -> None:
    given = {"INBOUND_SMTP_LISTEN": "relay://127.0.0.1:2526,smtps://127.0.0.1:2465"}
    listeners = choose_listeners(SERVICES["smtp-inbox"], given, 7001)
    assert listeners == given
    assert tell_listener("INBOUND_SMTP_LISTEN", listeners["INBOUND_SMTP_LISTEN"]) == {"SMTP_INBOX_ADDRESS": "127.0.0.1:2526"}


def test_an_inbox_listens_on_loopback_otherwise() -> None:
    assert choose_listeners(SERVICES["smtp-inbox"], {}, 7001) == {"INBOUND_SMTP_LISTEN": "relay://127.0.0.1:7001"}
    assert choose_listeners(SERVICES["json-inbox"], {}, 7002) == {"HTTP_LISTEN": "127.0.0.1:7002"}


@pytest.mark.parametrize("value", ["127.0.0.1:8080", ":8080"])
def test_the_http_address_is_told_as_a_url(value: str) -> None:
    assert tell_listener("HTTP_LISTEN", value) == {"HTTP_ADDRESS": "http://127.0.0.1:8080"}


def test_a_metrics_address_of_the_caller_is_counted_on_from_process_to_process() -> None:
    given = {"METRICS_ADDR": "127.0.0.1:9100"}
    assert choose_metrics(given, 7003, []) == "127.0.0.1:9100"
    assert choose_metrics(given, 7003, ["127.0.0.1:9100", "127.0.0.1:9101"]) == "127.0.0.1:9102"
    assert choose_metrics({}, 7003, ["127.0.0.1:9100"]) == "127.0.0.1:7003"


def test_a_metrics_address_without_port_is_refused_by_name() -> None:
    with pytest.raises(StackError, match="METRICS_ADDR: 'localhost': expected HOST:PORT"):
        choose_metrics({"METRICS_ADDR": "localhost"}, 7003, [])


def test_scale() -> None:
    assert parse_scale("") == {}
    assert parse_scale("smtp-sender=2, router=0,") == {"smtp-sender": 2, "router": 0}
    assert copy_names("router", 1) == ["router"]
    assert copy_names("router", 2) == ["router-1", "router-2"]


@pytest.mark.parametrize("text", ["smtp-sender", "smtp-sender=", "smtp-sender=-1", "smtp-sender=65", "sender=2"])
def test_a_wrong_scale_is_refused_with_the_part_that_is_wrong(text: str) -> None:
    with pytest.raises(StackError, match=text.split("=")[0]):
        parse_scale(f"router=1,{text}")


def test_the_env_file_is_read_alike_by_a_shell_and_line_by_line() -> None:
    env = {"DB_URI": "postgresql://me:x@127.0.0.1:1/mw", "STORAGE_URL": "dir:///it's here/payloads"}
    lines = render_shell(env).splitlines()
    assert lines[-1] == "export PATH DB_URI STORAGE_URL"
    assert lines[-2].endswith(".venv/bin:$PATH")
    assert dict(shlex.split(line)[0].split("=", 1) for line in lines[:-2]) == env
