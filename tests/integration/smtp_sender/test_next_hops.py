"""Which host an attempt goes to: MX and literals, smarthosts and the sink, and the addresses that nobody is led to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.smtp_sender.peers import scripted
from tests.integration.smtp_sender.sending import desk, what
from tests.support.certificates import Certificates, make_certificates
from tests.support.mx import MxOptions, ScriptedMx
from tests.support.waiting import free_ports


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For relay.example."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), ("relay.example",))


async def test_the_next_host_when_one_cannot_be_reached(tmp_path: Path) -> None:
    async with ScriptedMx(tmp_path, listen=("127.0.0.5:0",)) as mx:
        zone = {
            "two.example": {"MX": [(10, "down.example"), (20, "up.example")]},
            "down.example": {"A": "127.0.0.4"},
            "up.example": {"A": "127.0.0.5"},
        }
        async with desk(zone, mx=mx) as one:
            assert (await one.send("ok@two.example"))["to"] == "127.0.0.5"


async def test_the_next_host_when_one_turns_us_away(tmp_path: Path) -> None:
    async with ScriptedMx(tmp_path / "1", listen=("127.0.0.5:0",)) as good:
        options = MxOptions(greeting="554 5.3.2 No service here")
        async with ScriptedMx(tmp_path / "2", listen=(f"127.0.0.4:{good.port}",), options=options):
            zone = {
                "two.example": {"MX": [(10, "bad.example"), (20, "good.example")]},
                "bad.example": {"A": "127.0.0.4"},
                "good.example": {"A": "127.0.0.5"},
            }
            async with desk(zone, mx=good) as one:
                assert (await one.send("ok@two.example"))["to"] == "127.0.0.5"


async def test_two_that_turn_us_away_are_enough(tmp_path: Path) -> None:
    options = MxOptions(greeting="554 5.3.2 No service here")
    async with ScriptedMx(tmp_path, listen=("127.0.0.4:0",), options=options) as mx:
        zone = {"two.example": {"MX": [(number, f"h{number}.example") for number in range(4)]}} | {
            f"h{number}.example": {"A": "127.0.0.4"} for number in range(4)
        }
        async with desk(zone, mx=mx) as one:
            assert what(await one.send("ok@two.example")) == ("intro", "error")
            assert mx.state.connections == 2


async def test_a_host_that_cannot_be_reached_rests(tmp_path: Path) -> None:
    [port] = free_ports(1)
    zone = {"x.example": {"A": "127.0.0.1"}}
    async with desk(zone, smtp_port=port, smtp_allow_private="127.0.0.0/8", host_rest=300) as one:
        first = await one.send("ok@x.example")
        assert (*what(first), first.get("code")) == ("connect", "error", None)
        async with ScriptedMx(tmp_path, listen=(f"127.0.0.1:{port}",)) as mx:
            second = await one.send("ok@x.example")
            assert what(second) == ("connect", "error")
            assert "not tried again for a while, since" in second["description"]
            assert mx.state.connections == 0
    async with desk(zone, smtp_port=port, smtp_allow_private="127.0.0.0/8", host_rest=0) as one:
        assert what(await one.send("ok@x.example")) == ("connect", "error")
        async with ScriptedMx(tmp_path, listen=(f"127.0.0.1:{port}",)):
            assert what(await one.send("ok@x.example")) == ("message", "accepted")


@pytest.mark.parametrize("recipient", ["ok@[127.0.0.1]", "ok@[IPv6:::ffff:127.0.0.1]", "ok@[ipv6:::1]"])
async def test_address_literals(tmp_path: Path, recipient: str) -> None:
    async with ScriptedMx(tmp_path, listen=("127.0.0.1:0",)) as mx, desk(mx=mx, smtp_allow_private="127.0.0.0/8,::1/128") as one:
        result = await one.send(recipient)
        assert result["state"] in ("message", "connect")
        assert (result["state"] == "message") == ("127" in recipient)
        assert one.dns.query_count == 0


@pytest.mark.parametrize(
    ("recipient", "smarthost"),
    [
        ("ok@inner.example", None),
        ("ok@mapped.example", None),
        ("ok@[127.0.0.1]", None),
        ("ok@[IPv6:::1]", None),
        ("ok@[169.254.169.254]", None),
        ("ok@x.example", {"hostname": "127.0.0.1"}),
        ("ok@x.example", {"hostname": "[::1]"}),
        ("ok@x.example", {"hostname": "inner.example"}),
        ("ok@x.example", {"hostname": "10.0.0.1"}),
    ],
)
async def test_no_private_address_is_reached_from_user_data(tmp_path: Path, recipient: str, smarthost: Any) -> None:
    async with ScriptedMx(tmp_path) as mx:
        zone = {
            "inner.example": {"MX": "10 host.inner.example"},
            "host.inner.example": {"A": "127.0.0.1", "AAAA": "::1"},
            "mapped.example": {"AAAA": "::ffff:127.0.0.1"},
        }
        zone["inner.example"]["A"] = "127.0.0.1"
        if smarthost is not None:
            smarthost = smarthost | {"port": mx.port}
        async with desk(zone, smtp_port=mx.port) as one:
            result = await one.send(recipient, smarthost=smarthost)
            assert (*what(result), result["code"], result["status"]) == ("connect", "error", 451, "4.4.6")
            assert "private addresses only" in result["description"]
        assert mx.state.connections == 0


async def test_a_private_address_among_public_ones_is_left_out(tmp_path: Path) -> None:
    async with ScriptedMx(tmp_path) as mx:
        zone = {"x.example": {"A": ["10.1.2.3", "127.0.0.1"]}}
        async with desk(zone, smtp_port=mx.port, smtp_allow_private="127.0.0.0/8") as one:
            assert (await one.send("ok@x.example"))["to"] == "127.0.0.1"


async def test_mail_that_leads_back_to_us(tmp_path: Path) -> None:
    async with ScriptedMx(tmp_path) as mx:
        zone = {
            "loop.example": {"MX": "10 ME.example"},
            "backup.example": {"MX": [(10, "mx.example"), (20, "me.example"), (30, "other.example")]},
            "other.example": {"A": "127.0.0.9"},
            "me.example": {"A": mx.host},
        }
        async with desk(zone, mx=mx) as one:
            result = await one.send("ok@loop.example")
            assert (*what(result), result["code"], result["status"]) == ("dns", "error", 554, "5.4.6")
            assert mx.state.connections == 0
            assert (await one.send("ok@backup.example"))["mta"] == "mx.example"


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("gone.example", ("dns", "error")),
        ("null.example", ("dns", "error")),
        ("broken.example", ("dns", "timeout")),
        ("silent.example", ("dns", "timeout")),
    ],
)
async def test_no_way_by_dns(domain: str, expected: tuple[str, str]) -> None:
    zone = {"null.example": {"MX": "0 ."}, "broken.example": "SERVFAIL", "silent.example": "SILENT"}
    async with desk(zone) as one:
        result = await one.send(f"ok@{domain}")
        assert what(result) == expected
        assert not {"to", "from", "mta", "messages", "sent"} & set(result)


# --- smarthosts and the sink


async def test_a_smarthost_of_the_message(tmp_path: Path, certificates: Certificates) -> None:
    options = MxOptions(users={"anna": "secret"}, auth_required=True, auth_only_under_tls=True, transcript=True)
    async with (
        scripted(tmp_path, options=options, certificates=certificates) as mx,
        desk({"relay.example": {"A": mx.host}}, smtp_allow_private="127.0.0.0/8") as one,
    ):
        relay = {"hostname": "relay.example", "port": mx.port, "username": "anna", "password": "secret"}
        finished = await one.attempt("ok@x.example", smarthost=relay)
        result = finished.attempt.to_document()
        assert (*what(result), result["authentication"]) == ("message", "accepted", "PLAIN")
        assert finished.with_smarthost
        assert ("x.example", "MX") not in one.dns.queries
        wrong = await one.send("ok@x.example", smarthost=relay | {"password": "wrong"})
        assert (*what(wrong), wrong["code"]) == ("authplain", "error", 535)
        assert "authentication" not in wrong
        without = await one.send("ok@x.example", smarthost={"hostname": "relay.example", "port": mx.port})
        assert (*what(without), without["code"]) == ("mailfrom", "error", 530)


async def test_the_operators_smarthost_is_trusted_and_the_messages_wins(tmp_path: Path) -> None:
    async with (
        scripted(tmp_path / "1") as ours,
        scripted(tmp_path / "2") as theirs,
        desk(smarthost="127.0.0.1", smarthost_port=ours.port) as one,
    ):
        assert (await one.send("ok@x.example"))["result"] == "accepted"
        assert ours.state.messages == 1
        named = {"hostname": "127.0.0.1", "port": theirs.port}
        assert what(await one.send("ok@x.example", smarthost=named)) == ("connect", "error")
        assert (ours.state.messages, theirs.state.connections) == (1, 0)


async def test_a_smarthost_that_does_not_exist() -> None:
    async with desk() as one:
        assert what(await one.send("ok@x.example", smarthost={"hostname": "gone.example"})) == ("dns", "error")
        assert what(await one.send("ok@x.example", smarthost={"hostname": "a..b"})) == ("dns", "error")


async def test_the_sink_gets_everything(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(smtp_sink_address=mx.address) as one:
        assert (await one.send("ok@gone.example"))["result"] == "accepted"
        assert (await one.send("ok@x.example", smarthost={"hostname": "elsewhere.example"}))["result"] == "accepted"
        assert one.dns.query_count == 0
