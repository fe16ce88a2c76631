"""What an answer of the seal service means."""

import pytest

from services.seal_sender.client import Ending, Misconfigured, SealClient, decide_ending
from services.seal_sender.settings import ServiceSettings
from shared.settings import load
from shared.trouble import BadSetting
from shared.wire.result import Result, State


@pytest.mark.parametrize("code", [200, 201, 202])
def test_accepted(code: int) -> None:
    ending = decide_ending(code, b'{"id": "s-1", "more": 2}', {"remote_ip": "192.0.2.1"})
    assert ending == Ending(State.MESSAGE, Result.ACCEPTED, 250, "2.0.0", "sealed as s-1", remote_ip="192.0.2.1")


@pytest.mark.parametrize("answer", [b"", b"ok", b"[]", b'{"id": 5}', b'{"id": ""}'])
def test_acceptance_without_an_id_is_none(answer: bytes) -> None:
    ending = decide_ending(200, answer, {})
    assert (ending.state, ending.result, ending.code) == (State.MESSAGE, Result.INVALID, None)


@pytest.mark.parametrize(("code", "smtp"), [(400, 554), (413, 552), (415, 554), (422, 554)])
def test_permanent(code: int, smtp: int) -> None:
    ending = decide_ending(code, b'{"detail": "no such person"}', {})
    assert (ending.state, ending.result, ending.code) == (State.MESSAGE, Result.ERROR, smtp)
    assert ending.description == f"HTTP {code}: no such person"
    assert ending.status is not None
    assert ending.status.startswith("5")


@pytest.mark.parametrize("code", [300, 302, 307, 402, 406, 408, 409, 410, 418, 425, 429, 451, 500, 501, 502, 503, 504, 599])
def test_everything_else_is_tried_again(code: int) -> None:
    ending = decide_ending(code, b"<html>", {})
    assert (ending.state, ending.result, ending.code, ending.status) == (State.MESSAGE, Result.ERROR, 451, "4.3.0")


@pytest.mark.parametrize("code", [401, 403, 404, 405, 407])
def test_our_own_misconfiguration_is_no_verdict(code: int) -> None:
    with pytest.raises(Misconfigured, match=str(code)):
        decide_ending(code, b"", {})


@pytest.mark.parametrize(
    "address", ["http://seal.example", "http://192.0.2.1:80", "ftp://127.0.0.1", "seal.example", "https://user:pw@seal.example"]
)
def test_an_address_in_clear_text_or_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(BadSetting, match=r"^outbound-seal-addr: "):
        load(ServiceSettings, options={"outbound-seal-addr": address})


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8200", "http://localhost", "http://[::1]:1/", "https://seal.example/base/"]
)
def test_an_address_that_is_fine(address: str) -> None:
    assert load(ServiceSettings, options={"outbound-seal-addr": address}).settings.outbound_seal_addr == address.rstrip("/")


async def test_no_address_is_said_at_start() -> None:
    with pytest.raises(BadSetting, match=r"^outbound-seal-addr: missing"):
        SealClient(load(ServiceSettings).settings)


async def test_a_certificate_that_cannot_be_read_is_said_at_start() -> None:
    options = {"outbound-seal-addr": "https://seal.example", "outbound-seal-certificate": "/nowhere.pem"}
    with pytest.raises(BadSetting, match=r"^outbound-seal-certificate: '/nowhere.pem'"):
        SealClient(load(ServiceSettings, options=options).settings)
