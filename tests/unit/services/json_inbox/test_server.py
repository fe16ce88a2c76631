"""Who may talk to the HTTP interface while there are no tokens."""

from typing import Any

import pytest

from services.json_inbox.server import check_browser
from services.json_inbox.settings import ServiceSettings
from shared.settings import load
from shared.trouble import BadSetting


def scope(**headers: str) -> dict[str, Any]:
    return {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "127.0.0.1:8100"},
        {"host": "localhost"},
        {"host": "LOCALHOST:1"},
        {"host": "[::1]:8100"},
        {"host": "127.8.9.1"},
        {"host": "127.0.0.1:8100", "origin": "http://127.0.0.1:8100"},
    ],
)
def test_let_in(headers: dict[str, str]) -> None:
    assert check_browser(scope(**headers)) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "rebound.example:8100"}, 421),
        ({"host": "192.0.2.1"}, 421),
        ({"host": "127.0.0.1.example"}, 421),
        ({"host": "127.0.0.1:8100", "origin": "https://evil.example"}, 403),
        ({"host": "127.0.0.1:8100", "origin": "http://127.0.0.1:9999"}, 403),
        ({"host": "127.0.0.1:8100", "origin": "null"}, 403),
    ],
)
def test_kept_out(headers: dict[str, str], status: int) -> None:
    problem = check_browser(scope(**headers))
    assert problem is not None
    assert problem.status == status


@pytest.mark.parametrize("address", ["0.0.0.0:8100", "[::]:8100", "192.0.2.1:80", "mail.example:80"])
def test_a_listener_beyond_loopback_is_refused(address: str) -> None:
    with pytest.raises(BadSetting, match=r"^http-listen: .*tokens are not built yet"):
        load(ServiceSettings, options={"http-listen": address})


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ""])
def test_a_listener_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(BadSetting, match=r"^http-listen: .*expected host:port"):
        load(ServiceSettings, options={"http-listen": address})


def test_loopback_is_taken() -> None:
    assert load(ServiceSettings, options={"http-listen": "[::1]:0"}).settings.http_listen == "[::1]:0"


def test_the_sender_of_actions_must_be_an_address() -> None:
    with pytest.raises(BadSetting, match=r"^actions-sender: 'nobody'"):
        load(ServiceSettings, options={"actions-sender": "nobody"})
