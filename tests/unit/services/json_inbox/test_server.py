"""Where the HTTP interface may listen."""

import pytest

from services.json_inbox.settings import ServiceSettings, check_listener
from shared.settings import load
from shared.trouble import BadSetting

TLS = {"http-tls-public-key": "/etc/cert.pem", "http-tls-private-key": "/etc/key.pem"}


def check(options: dict[str, str]) -> None:
    check_listener(load(ServiceSettings, options=options).settings)


@pytest.mark.parametrize("address", ["0.0.0.0:8100", "[::]:8100", "192.0.2.1:80", "mail.example:80"])
def test_beyond_loopback_tokens_must_not_pass_in_the_clear(address: str) -> None:
    with pytest.raises(BadSetting, match=r"^http-listen: .*http-tls-public-key"):
        check({"http-listen": address})
    check({"http-listen": address, **TLS})
    check({"http-listen": address, "http-cleartext": "true"})


@pytest.mark.parametrize("name", TLS)
def test_half_a_key_pair_is_refused(name: str) -> None:
    with pytest.raises(BadSetting, match="expected both or neither"):
        check({name: TLS[name]})


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ""])
def test_a_listener_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(BadSetting, match=r"^http-listen: .*expected host:port"):
        load(ServiceSettings, options={"http-listen": address})


def test_loopback_is_taken() -> None:
    check({"http-listen": "[::1]:0"})


def test_the_sender_of_actions_must_be_an_address() -> None:
    with pytest.raises(BadSetting, match=r"^actions-sender: 'nobody'"):
        load(ServiceSettings, options={"actions-sender": "nobody"})
