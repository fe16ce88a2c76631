"""One attempt as a whole: route, source address, session, content, and the result that tells it."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from services.smtp_sender.pool import Limits
from shared.trouble import Unavailable
from tests.integration.smtp_sender.peers import commands, scripted
from tests.integration.smtp_sender.sending import desk, what
from tests.support.certificates import Certificates, Kind, make_certificates
from tests.support.mx import MxOptions
from tests.support.waiting import until

MIME = "Subject: x\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For mx.example."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), ("mx.example",))


async def test_a_result_is_complete(tmp_path: Path, certificates: Certificates) -> None:
    async with scripted(tmp_path, certificates=certificates) as mx, desk(mx=mx, ca=certificates.ca) as one:
        finished = await one.attempt("ok@x.example")
        result = finished.attempt.to_document()
        cipher, certificate = result.pop("cipher"), result.pop("certificate")
        assert (cipher["version"], certificate["verified"]) == ("TLSv1.3", True)
        assert result.pop("time")
        assert result.pop("description").startswith("2.0.0 Ok: queued as")
        commands_sent = f"MAIL FROM:<r@a.example> SIZE={len(MIME)}\r\nRCPT TO:<ok@x.example>\r\nDATA\r\n"
        assert result.pop("sent") == {"connection": len(f"{commands_sent}{MIME}.\r\n"), "data": len(MIME)}
        assert result == {
            "state": "message", "result": "accepted", "attempt": 1, "mta": "mx.example", "from": "127.0.0.1", "to": "127.0.0.1",
            "messages": 1, "code": 250, "status": "2.0.0", "dsn": True, "strategy": "smtp",
        }  # fmt: skip
        assert finished.extracted is not None
        assert finished.extracted["subject"] == "x"
        assert not finished.with_smarthost


async def test_a_refusal_is_complete(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        result = await one.send("reject-550@x.example", results=[{}, {}])
        assert result.pop("time")
        assert result.pop("sent")["data"] == 0
        assert result == {
            "state": "rcptto", "result": "error", "attempt": 3, "mta": "mx.example", "from": "127.0.0.1", "to": "127.0.0.1", "messages": 1,
            "code": 550, "status": "5.1.1", "description": "5.1.1 No such user here", "strategy": "smtp",
        }  # fmt: skip


async def test_a_host_that_turns_us_away_is_named(tmp_path: Path) -> None:
    async with scripted(tmp_path, connection=["fail-intro-554"]) as mx, desk(mx=mx) as one:
        result = await one.send("ok@x.example")
        assert (*what(result), result["to"], result["from"], result["code"]) == ("intro", "error", "127.0.0.1", "127.0.0.1", 554)


@pytest.mark.parametrize("kind", [Kind.SELF_SIGNED, Kind.EXPIRED, Kind.MISMATCH])
async def test_a_refused_certificate_is_shown(tmp_path: Path, certificates: Certificates, kind: Kind) -> None:
    async with scripted(tmp_path, certificates=certificates, kind=kind) as mx, desk(mx=mx, ca=certificates.ca) as one:
        result = await one.send("ok@x.example", security="verified")
        assert what(result) == ("starttls", "invalid")
        assert result["certificate"]["verified"] is False
        assert result["cipher"]["version"] == "TLSv1.3"
        assert (await one.send("ok@x.example", security="required"))["result"] == "accepted"


async def test_verified_wants_the_recipients_domain(tmp_path: Path) -> None:
    """Who forges the MX record has a certificate for the name in it."""
    for_host = make_certificates(tmp_path / "host", ("mx.example",))
    for_domain = make_certificates(tmp_path / "domain", ("x.example",))
    async with scripted(tmp_path / "1", certificates=for_host) as mx, desk(mx=mx, ca=for_host.ca) as one:
        result = await one.send("ok@x.example", security="verified")
        assert what(result) == ("starttls", "invalid")
        assert "not for x.example" in result["description"]
        relay = {"hostname": "mx.example", "port": mx.port}
        assert (await one.send("ok@x.example", security="verified", smarthost=relay))["result"] == "accepted"
    async with scripted(tmp_path / "2", certificates=for_domain) as mx, desk(mx=mx, ca=for_domain.ca) as one:
        assert (await one.send("ok@x.example", security="verified"))["result"] == "accepted"


# --- sessions are used again


async def test_one_session_for_many_mails(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        results = [await one.send(f"ok+{number}@x.example") for number in range(5)]
        assert [result["messages"] for result in results] == [1, 2, 3, 4, 5]
        assert (mx.state.connections, mx.state.messages) == (1, 5)


async def test_connection_maxmessages(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx, limits=Limits(20, 2, 5.0)) as one:
        results = [await one.send(f"ok+{number}@x.example") for number in range(5)]
        assert [result["messages"] for result in results] == [1, 2, 1, 2, 1]
        assert mx.state.connections == 3


async def test_a_refusal_does_not_cost_the_session(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        assert what(await one.send("reject-550@x.example")) == ("rcptto", "error")
        assert (await one.send("ok@x.example"))["messages"] == 2
        assert mx.state.connections == 1


async def test_what_was_sent_is_told_per_mail(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        assert (await one.send("ok@x.example"))["sent"]["data"] == len(MIME)
        assert (await one.send("ok@x.example", mime=None))["sent"] == {"connection": 0, "data": 0}


async def test_a_peer_that_has_had_enough_gets_a_new_connection(tmp_path: Path) -> None:
    """421 to the MAIL of a session that was used before: nothing about this mail, which goes over a new one at once."""
    options = MxOptions(messages_per_connection=2)
    async with scripted(tmp_path, options=options) as mx, desk(mx=mx) as one:
        results = [await one.send(f"ok+{number}@x.example") for number in range(5)]
        assert [what(result) for result in results] == [("message", "accepted")] * 5
        assert [result["messages"] for result in results] == [1, 2, 1, 2, 1]


async def test_one_ended_session_is_enough_to_try(tmp_path: Path) -> None:
    """The other idle ones are as old: the mail goes over a new connection, not through all of them."""
    options = MxOptions(messages_per_connection=1)
    async with scripted(tmp_path, options=options) as mx, desk(mx=mx) as one:
        await asyncio.gather(*(one.send(f"slow-200ms+{number}@x.example") for number in range(5)))
        before = mx.state.commands["MAIL"]
        assert (await one.send("ok@x.example"))["messages"] == 1
        assert mx.state.commands["MAIL"] == before + 2


async def test_421_at_the_first_mail_of_a_connection_is_an_answer(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        result = await one.send("ok@x.example", envelope="c421-mailfrom@a.example")
        assert (*what(result), result["code"]) == ("mailfrom", "error", 421)
        assert mx.state.connections == 1


async def test_an_idle_session_that_the_peer_closed(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        await one.send("ok@x.example")
        mx.close_connections()
        assert (await one.send("ok+2@x.example"))["messages"] == 1


async def test_idle_sessions_are_closed_with_a_goodbye(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx, limits=Limits(20, 100, 0.05)) as one:
        await one.send("ok@x.example")

        def is_closed() -> bool:
            one.pool.close_idle()
            return not mx.state.open_sessions

        await until(is_closed, within=3)
        assert mx.state.commands["QUIT"] == 1


async def test_sessions_with_different_security_are_kept_apart(tmp_path: Path, certificates: Certificates) -> None:
    async with scripted(tmp_path, certificates=certificates) as mx, desk(mx=mx, ca=certificates.ca) as one:
        assert "cipher" not in await one.send("ok@x.example", security="optional")
        assert "cipher" in await one.send("ok@x.example", security="required")
        assert mx.state.connections == 2


async def test_no_more_connections_than_allowed(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx, limits=Limits(3, 100, 5.0)) as one:
        await asyncio.gather(*(one.send(f"slow-50ms+{number}@x.example") for number in range(12)))
        assert mx.state.connections <= 3
        assert mx.state.messages == 12


async def test_a_slow_host_does_not_keep_mails_in_hand(tmp_path: Path) -> None:
    """Who waits too long for a connection is handed back: nothing about the mail, and room for the others."""
    async with scripted(tmp_path) as mx, desk(mx=mx, limits=Limits(1, 100, 5.0, patience=0.1)) as one:
        slow = asyncio.ensure_future(one.send("slow-300ms@x.example"))
        await until(lambda: mx.state.commands["DATA"], within=2)
        with pytest.raises(Unavailable, match=r"all 1 connections to mx\.example are in use"):
            await one.send("ok@x.example")
        assert (await slow)["result"] == "accepted"
        assert (await one.send("ok@x.example"))["result"] == "accepted"


# --- source addresses


async def test_source_addresses(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx, smtp_default_ips="127.0.0.8") as one:
        assert (await one.send("ok@x.example"))["from"] == "127.0.0.8"
        assert (await one.send("ok@x.example", ips=["127.0.0.9"]))["from"] == "127.0.0.9"
        assert (await one.send("ok@x.example", ips=["203.0.113.77", "127.0.0.9"]))["from"] == "127.0.0.9"


@pytest.mark.parametrize("ips", [[], ["203.0.113.77"], ["203.0.113.77", "2001:db8::77"]])
async def test_no_usable_source_address(tmp_path: Path, ips: list[str]) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        assert what(await one.send("ok@x.example", ips=ips)) == ("process", "error")
        assert mx.state.connections == 0


async def test_a_default_source_address_that_is_gone(tmp_path: Path) -> None:
    """The operator's mistake: tried again, and nothing is said about the host."""
    async with scripted(tmp_path) as mx, desk(mx=mx, smtp_default_ips="203.0.113.77") as one:
        for _ in range(2):
            result = await one.send("ok@x.example")
            assert (*what(result), result.get("status")) == ("bind", "error", None)
            assert "203.0.113.77" in result["description"]
    async with scripted(tmp_path) as mx, desk(mx=mx, smtp_default_ips="203.0.113.77,127.0.0.8") as one:
        assert (await one.send("ok@x.example"))["from"] == "127.0.0.8"


async def test_a_source_address_of_another_family(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        result = await one.send("ok@x.example", ips=["::1"])
        if result["state"] != "process":  # a machine without IPv6 has no ::1
            assert (*what(result), result["status"]) == ("bind", "error", "5.3.5")


# --- content


async def test_content_from_the_store(tmp_path: Path) -> None:
    content = b"Subject: stored\r\n\r\n.hello\r\n"
    stored = {"channel": "smtp", "key": "k", "sha256": hashlib.sha256(content).hexdigest(), "mime": None}
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        missing = await one.send("ok@x.example", **stored)
        assert (*what(missing), missing["mta"], missing["sent"]["data"]) == ("storage", "error", "mx.example", 0)
        one.store.payloads["k"] = content
        assert what(await one.send("ok@x.example", **stored)) == ("message", "accepted")
        assert mx.ledger.mails()[0].content == content
        one.store.payloads["k"] = b"other"
        assert what(await one.send("ok@x.example", **stored)) == ("storage", "invalid")
        one.store.is_down = True
        with pytest.raises(Unavailable):
            await one.send("ok@x.example", **stored)
        one.store.is_down = False
        one.store.payloads["k"] = content
        assert what(await one.send("ok@x.example", **stored)) == ("message", "accepted")
        assert mx.state.connections == 1


async def test_no_bare_newline_leaves_us_and_nothing_is_smuggled(tmp_path: Path) -> None:
    smuggled = (
        "Subject: x\r\n\r\nhello\n.\r\nMAIL FROM:<evil@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\nevil\r.\r\n\n.\n\r\n.\rend"
    )
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        assert (await one.send("ok@x.example", mime=smuggled))["result"] == "accepted"
        [mail] = mx.ledger.mails()
        assert mail.content.count(b"\n") == mail.content.count(b"\r") == mail.content.count(b"\r\n")
        assert b"MAIL FROM:<evil@x.example>" in mail.content
        assert commands(mx)[:4] == ["EHLO", "MAIL", "RCPT", "DATA"]


async def test_the_address_is_sent_byte_for_byte(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        for recipient in ('"odd > one"@x.example', "MiXed.Case@X.example", "o'k=!#$%&*+/?^_`{|}~-@x.example"):
            assert (await one.send(recipient))["result"] == "accepted"
            assert mx.ledger.mails()[-1].recipient == recipient


# --- how many connections a host gets


async def test_a_host_that_has_not_answered_yet_gets_a_few_connections(tmp_path: Path) -> None:
    """A tarpit must not take all there are; each mail that the host takes allows one more."""
    async with scripted(tmp_path) as mx, desk(mx=mx, limits=Limits(6, 100, 5.0, first=2)) as one:
        silent = [asyncio.ensure_future(one.send(f"silent-data+{number}@x.example")) for number in range(2)]
        await until(lambda: mx.state.commands["DATA"] == 2, what="both to be stuck")
        third = asyncio.ensure_future(one.send("ok@x.example"))
        results = await asyncio.gather(*silent, third)
        assert [what(result) for result in results] == [("data", "timeout")] * 2 + [("message", "accepted")]
        assert mx.state.connections == 3
        results = await asyncio.gather(*(one.send(f"slow-100ms+{number}@x.example") for number in range(12)))
        assert {what(result) for result in results} == {("message", "accepted")}
        assert 4 < mx.state.connections <= 3 + 6


async def test_nobody_waits_for_a_host_that_gives_nothing_back(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx, limits=Limits(1, 100, 5.0, stall=0.1)) as one:
        stuck = asyncio.ensure_future(one.send("silent-data@x.example"))
        await until(lambda: mx.state.commands["DATA"] == 1, what="the first to be stuck")
        with pytest.raises(Unavailable, match="in use"):
            await one.send("ok@x.example")
        assert what(await stuck) == ("data", "timeout")
        assert (await one.send("ok@x.example"))["result"] == "accepted"
