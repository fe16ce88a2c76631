"""What smtp-inbox refuses to start with, once it has looked at Postgres."""

from pathlib import Path
from typing import Any

import pytest

from services.smtp_inbox.guard import check_keys, check_local_mail, check_somebody_served, find_untaken
from services.smtp_inbox.locals import LocalRecipients, LocalTable
from services.smtp_inbox.settings import ServiceSettings, check
from shared.delivery.local_patterns import parse_local_pattern
from shared.delivery.rules import Rule, order_rules, parse_rule
from shared.settings import load
from shared.trouble import BadSetting

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in ServiceSettings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)


def settings(**options: str) -> ServiceSettings:
    return load(ServiceSettings, options=options).settings


def rule(params: dict[str, Any], *outbound: str, priority: int = 0, rewrite: dict[str, Any] | None = None) -> Rule:
    configuration = {"params": params, "outbound": list(outbound), **({"rewrite": rewrite} if rewrite else {})}
    return parse_rule({"name": f"rule {priority}", "priority": priority, "configuration": configuration})


SMARTHOST = {"smarthost": {"hostname": "mailbox.internal", "port": 24}}


@pytest.mark.parametrize(
    ("pattern", "rules", "is_taken"),
    [
        ("example.com", [], False),
        ("example.com", [rule({}, "seal")], True),
        ("example.com", [rule({}, "smtp")], False),
        ("example.com", [rule({}, "smtp", rewrite=SMARTHOST)], True),
        ("example.com", [rule({"recipient_domain": "EXAMPLE.com"}, "seal")], True),
        ("example.com", [rule({"recipient_domain": ["example.org", "example.*"]}, "seal", "smtp")], True),
        ("example.com", [rule({"recipient_domain": "example.org"}, "seal")], False),
        ("example.com", [rule({"recipient": "*@example.com"}, "smtp", rewrite=SMARTHOST)], True),
        ("example.com", [rule({"recipient": "info@example.com"}, "seal")], False),
        ("info@example.com", [rule({"recipient": "info@example.com"}, "seal")], True),
        ("example.com", [rule({"recipient_domain": "example.com", "channel": "smtp"}, "seal")], True),
        ("example.com", [rule({"recipient_domain": "example.com", "subject": "*x*"}, "seal")], False),
        ("example.com", [rule({"recipient_domain": "example.com", "sender": "*@example.org"}, "seal")], False),
        ("example.com", [rule({}, "smtp", priority=1), rule({}, "seal", priority=2)], False),
        ("example.com", [rule({}, "seal", priority=1), rule({}, "smtp", priority=2)], True),
        ("*.example.com", [rule({"recipient_domain": "*.example.com"}, "seal")], True),
        ("b-*@example.com", [rule({"recipient": "b-*@example.com"}, "seal")], True),
        ("/a@example\\.com/", [rule({"recipient": "a@example.com"}, "seal")], False),
    ],
)
def test_which_rules_take_local_mail(pattern: str, rules: list[Rule], is_taken: bool) -> None:
    parsed = parse_local_pattern(pattern)
    assert find_untaken([parsed], order_rules(rules)) == (None if is_taken else parsed)


async def test_local_recipients_need_a_key_or_a_word() -> None:
    for options in ({}, {"rabbitmq_local": "local"}, {"local_routed": "true"}):
        given = settings(**({"local_domains": "example.com"} if options else {}), **options)
        await check_local_mail(given, LocalRecipients(given))
    lost = settings(local_domains="example.com")
    with pytest.raises(
        BadSetting, match=r"rabbitmq-local: empty, so mail for example.com would be sent to ourselves: .*local-routed"
    ):
        await check_local_mail(lost, LocalRecipients(lost))


async def test_with_postgres_down_mail_is_taken(tmp_path: Path) -> None:
    given = settings(local_domains="example.com", db_uri=NOWHERE, locals_snapshot=str(tmp_path / "locals.json"))
    await check_local_mail(given, LocalRecipients(given))


@pytest.mark.parametrize("name", ["rabbitmq_local", "rabbitmq_reports", "rabbitmq_refused"])
@pytest.mark.parametrize("key", ["inbox", "outbox", "retries", "seal", "dsn", "record", "dead"])
def test_a_key_that_leads_mail_out_again(name: str, key: str) -> None:
    with pytest.raises(BadSetting, match=rf"{name.replace('_', '-')}: '{key}': is rabbitmq-{key}, too"):
        check_keys(settings(**{name: key}))


def test_keys_of_applications() -> None:
    check_keys(settings())
    check_keys(settings(rabbitmq_local="local", rabbitmq_reports="local", rabbitmq_refused="refused"))


@pytest.mark.parametrize(
    "options",
    [
        {"inbound_smtp_listen": "relay://127.0.0.1:25"},
        {"inbound_smtp_listen": "relay://localhost:25,relay://[::1]:25"},
        {"inbound_smtp_listen": "relay://0.0.0.0:25", "smtp_range": "192.0.2.0/24"},
        {"inbound_smtp_listen": "relay://0.0.0.0:25", "local_domains": "example.com"},
        {"inbound_smtp_listen": "relay://0.0.0.0:25", "local_addresses": "a@example.com"},
        {"inbound_smtp_listen": "relay://0.0.0.0:25", "inbound_smtp_auth": "/users", "inbound_smtp_tls": "true"},
        {"inbound_smtp_listen": "relay://0.0.0.0:25", "db_uri": NOWHERE},
    ],
    ids=["loopback", "localhost", "range", "domain", "address", "auth", "postgres never seen"],
)
def test_somebody_is_served(options: dict[str, str], tmp_path: Path) -> None:
    given = settings(**options, locals_snapshot=str(tmp_path / "locals.json"))
    check(given)
    check_somebody_served(given, LocalRecipients(given))


async def test_nobody_is_served(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"smtp-range: holds no client beyond loopback, but relay://0\.0\.0\.0:25 listens"):
        check(settings(inbound_smtp_listen="relay://0.0.0.0:25"))
    path = tmp_path / "locals.json"
    LocalTable(path).write([])
    given = settings(inbound_smtp_listen="relay://0.0.0.0:25", db_uri=NOWHERE, locals_snapshot=str(path))
    check(given)
    known = LocalRecipients(given)
    await known.load()
    with pytest.raises(BadSetting, match=r"no local recipients in Postgres, but relay://0\.0\.0\.0:25 listens"):
        check_somebody_served(given, known)
