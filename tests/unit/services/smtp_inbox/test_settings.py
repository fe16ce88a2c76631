"""What smtp-inbox refuses to start with."""

import pytest

from services.smtp_inbox.settings import Listener, ServiceSettings, check, parse_listeners
from shared.settings import load
from shared.trouble import BadSetting


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


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"inbound_smtp_auth": "file:///users"}, "inbound-smtp-auth: 'file:///users': not built yet"),
        ({"local_domains": "example.com"}, "local-domains: .* not built yet"),
        ({"local_addresses": "a@example.com"}, "local-addresses: .* not built yet"),
        ({"rabbitmq_local": "local"}, "rabbitmq-local: 'local': not built yet"),
        ({"rabbitmq_refused": "refused"}, "rabbitmq-refused: 'refused': not built yet"),
        ({"rabbitmq_inbox": ""}, "rabbitmq-inbox, rabbitmq-record: expected a routing key"),
        ({"inbound_smtp_listen": "submission://127.0.0.1:587"}, "submission needs AUTH, which is not built yet"),
        ({"inbound_smtp_listen": "127.0.0.1:25"}, "expected relay://host:port"),
        ({"inbound_smtp_listen": "relay://127.0.0.1"}, "inbound-smtp-listen: '127.0.0.1': expected host:port"),
        ({"inbound_smtp_listen": "relay://:25"}, "expected a host"),
        ({"inbound_smtp_listen": "relay://0.0.0.0:25"}, "smtp-range: holds no client beyond loopback"),
        ({"inbound_smtp_host": "192.0.2.1"}, "smtp-range: holds no client beyond loopback"),
        ({"inbound_smtp_host": "192.0.2.1", "smtp_range": ""}, "smtp-range: holds no client beyond loopback"),
        ({"smtp_range": "0.0.0.0/0"}, "smtp-range: holds half of the Internet"),
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
