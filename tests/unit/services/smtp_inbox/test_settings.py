"""What smtp-inbox refuses to start with."""

import pytest

from services.smtp_inbox.settings import Listener, ServiceSettings, check, parse_listeners
from shared.settings import load
from shared.trouble import BadSetting

AUTH = {"inbound_smtp_auth": "/users"}
TLS = {"inbound_smtp_tls": "true"}


def settings(**options: str) -> ServiceSettings:
    return load(ServiceSettings, options=options).settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in ServiceSettings.model_fields:
        monkeypatch.delenv(field.upper(), raising=False)


def test_the_default_is_one_relay_listener_on_loopback() -> None:
    check(settings())
    assert parse_listeners(settings()) == [Listener("127.0.0.1", 1587, False)]


def test_a_list_of_listeners() -> None:
    chosen = settings(
        inbound_smtp_listen="relay://0.0.0.0:25,smtps://[::1]:465", smtp_range="10.0.0.0/8", inbound_smtp_tls="true"
    )
    check(chosen)
    assert parse_listeners(chosen) == [Listener("0.0.0.0", 25, False), Listener("::1", 465, True)]


def test_the_four_kinds_of_listeners_are_written_as_they_are_read() -> None:
    urls = ["relay://127.0.0.1:1", "smtps://[::1]:2", "submission://127.0.0.1:3", "submissions://127.0.0.1:4"]
    chosen = settings(inbound_smtp_listen=",".join(urls), **AUTH, **TLS)
    check(chosen)
    listeners = parse_listeners(chosen)
    assert [(one.is_tls, one.needs_auth) for one in listeners] == [(False, False), (True, False), (False, True), (True, True)]
    assert [one.url for one in listeners] == urls


def test_with_auth_there_may_be_listeners_beyond_loopback() -> None:
    check(settings(inbound_smtp_listen="relay://0.0.0.0:25,submission://0.0.0.0:587", **AUTH, **TLS))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"inbound_smtp_auth": "/users"},
            "inbound-smtp-tls: expected true, because of inbound-smtp-auth: there is no AUTH without",
        ),
        ({"inbound_smtp_auth": "ldap://u:secret@x", **TLS}, r"inbound-smtp-auth: 'ldap://u:\*{8}@x': expected the path"),
        ({"rabbitmq_inbox": ""}, "rabbitmq-inbox, rabbitmq-record: expected a routing key"),
        (
            {"inbound_smtp_listen": "submission://127.0.0.1:587", **TLS},
            "inbound-smtp-auth: expected a users file .* submission://127",
        ),
        (
            {"inbound_smtp_listen": "submissions://[::1]:465", **TLS},
            r"inbound-smtp-auth: .* because of submissions://\[::1\]:465",
        ),
        ({"inbound_smtp_listen": "submission://127.0.0.1:587", **AUTH}, "inbound-smtp-tls: expected true, because of submission"),
        ({"inbound_smtp_listen": "127.0.0.1:25"}, "expected relay, smtps, submission, submissions and ://host:port"),
        ({"inbound_smtp_listen": "smtp://127.0.0.1:25"}, "expected relay, smtps, submission, submissions and ://host:port"),
        ({"inbound_smtp_listen": "relay://127.0.0.1"}, "inbound-smtp-listen: '127.0.0.1': expected host:port"),
        ({"inbound_smtp_listen": "relay://:25"}, "expected a host"),
        ({"inbound_smtp_listen": "relay://0.0.0.0:25"}, "smtp-range: holds no client beyond loopback"),
        ({"inbound_smtp_host": "192.0.2.1"}, "smtp-range: holds no client beyond loopback"),
        ({"inbound_smtp_host": "192.0.2.1", "smtp_range": ""}, "smtp-range: holds no client beyond loopback"),
        ({"inbound_smtp_listen": "relay://127.0.0.1:1,relay://[::]:25"}, r"beyond loopback, but relay://\[::\]:25 listens"),
        ({"smtp_range": "0.0.0.0/0"}, "smtp-range: holds an eighth of the Internet"),
        ({"smtp_range": "0.0.0.0/0", **AUTH, **TLS}, "smtp-range: holds an eighth of the Internet"),
        ({"inbound_smtp_proxy_from": "::/0"}, "inbound-smtp-proxy-from: holds an eighth of the Internet"),
        ({"inbound_smtp_proxy_from": "proxy.example"}, "inbound-smtp-proxy-from: 'proxy.example': expected a CIDR"),
        ({"inbound_smtp_listen": "smtps://127.0.0.1:465"}, "inbound-smtp-tls: expected true"),
    ],
)
def test_refused(options: dict[str, str], reason: str) -> None:
    with pytest.raises(BadSetting, match=reason):
        check(settings(**options))


@pytest.mark.parametrize("name", ["inbound_smtp_max_size", "inbound_smtp_max_recipients", "inbound_smtp_bare_newlines"])
def test_a_value_of_the_wrong_kind_names_the_setting(name: str) -> None:
    with pytest.raises(BadSetting, match=name.replace("_", "-") + ": 'many'"):
        settings(**{name: "many"})
