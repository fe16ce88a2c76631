"""Postfix as the MX: what it offers, refuses and stores."""

from __future__ import annotations

import asyncio
import base64
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.smtp_sender.pool import Limits
from tests.integration.peers.contents import BODIES, render
from tests.integration.peers.ending import desk_towards, ended, told
from tests.support.certificates import Certificates
from tests.support.peers.postfix import SIZE_LIMIT, Postfix

SENT = ("message", "accepted", "sent")
REFUSALS = [
    ("unknown", ("rcptto", "error", "failed"), 550, "5.1.1"),
    ("grey", ("rcptto", "error", "retry"), 450, "4.7.1"),
    ("policy", ("rcptto", "error", "failed"), 554, "5.7.1"),
]


@pytest.fixture(scope="module")
def postfix(folder: Path, certificates: Certificates) -> Iterator[Postfix]:
    """One for all tests of this module."""
    with Postfix(folder / "postfix", certificates) as peer:
        yield peer


def test_what_it_offers(postfix: Postfix) -> None:
    with smtplib.SMTP(postfix.host, postfix.port, timeout=10) as client:
        client.ehlo("test.example")
        offered = {"pipelining", "size", "starttls", "enhancedstatuscodes", "8bitmime", "dsn", "smtputf8", "chunking"}
        assert offered <= set(client.esmtp_features)


async def test_verified_tls(postfix: Postfix, certificates: Certificates) -> None:
    async with desk_towards(postfix, ca=certificates.ca) as one:
        finished = await one.attempt("good@x.example", security="verified", mime=render("tls", b"x").decode())
        assert ended(finished) == SENT
        result = told(finished)
        assert (result["mta"], result["to"], result["status"], result["dsn"]) == ("postfix.example", postfix.host, "2.0.0", True)
        assert (result["cipher"]["version"], result["certificate"]["verified"]) == ("TLSv1.3", True)
        assert result["description"].startswith("2.0.0 Ok: queued as ")
    [mail] = await postfix.mail.wait_for("X-Token: tls.")
    assert (mail.field("Return-Path"), mail.field("Delivered-To")) == ("<r@a.example>", "good@x.example")
    assert "(using TLSv1.3 with cipher" in mail.field("Received")
    assert "with ESMTPS id" in mail.field("Received")


async def test_another_name_in_the_certificate(postfix: Postfix, certificates: Certificates) -> None:
    async with desk_towards(postfix, ca=certificates.ca) as one:
        one.dns.put("a.example", {"MX": "10 mx.x.example"})
        finished = await one.attempt("r@a.example", security="verified")
        assert ended(finished) == ("starttls", "invalid", "retry")


@pytest.mark.parametrize("name", BODIES)
async def test_bytes_arrive_as_they_are(postfix: Postfix, name: str) -> None:
    sent = render(name, BODIES[name])
    async with desk_towards(postfix) as one:
        finished = await one.attempt("good@x.example", mime=None, mime64=base64.b64encode(sent).decode())
        assert ended(finished) == SENT
    [mail] = await postfix.mail.wait_for(f"X-Token: {name}.")
    assert mail.content == (sent if sent.endswith(b"\r\n") else sent + b"\r\n")


async def test_a_null_reverse_path_and_an_utf8_address(postfix: Postfix) -> None:
    async with desk_towards(postfix) as one:
        assert ended(await one.attempt("jürgen@x.example", envelope="", mime=render("utf8-address", b"").decode())) == SENT
    [mail] = await postfix.mail.wait_for("X-Token: utf8-address.")
    assert (mail.field("Return-Path"), mail.field("Delivered-To")) == ("<>", "jürgen@x.example")
    assert "with UTF8SMTPS id" in mail.field("Received")


async def test_over_its_size(postfix: Postfix) -> None:
    async with desk_towards(postfix) as one:
        finished = await one.attempt("good@x.example", mime="Subject: x\r\n\r\n" + "x" * 78 + "\r\n" * SIZE_LIMIT)
        assert ended(finished) == ("mailfrom", "error", "failed")
        assert (told(finished)["code"], told(finished)["status"], told(finished)["sent"]["data"]) == (552, "5.3.4", 0)
        assert ended(await one.attempt("good@x.example")) == SENT


@pytest.mark.parametrize(("local", "ending", "code", "status"), REFUSALS)
async def test_refusals(postfix: Postfix, local: str, ending: tuple[str, str, str], code: int, status: str) -> None:
    async with desk_towards(postfix) as one:
        finished = await one.attempt(f"{local}@x.example")
        assert ended(finished) == ending
        assert (told(finished)["code"], told(finished)["status"]) == (code, status)


async def test_the_right_one_is_refused_on_one_session(postfix: Postfix) -> None:
    """MAIL, RCPT and DATA go out in one write: a reply too many or too few would show in the next mail."""
    order = ["good", "unknown", "good", "grey", "policy", "good", "unknown", "unknown", "grey", "good"]
    endings = {local: ending for local, ending, _, _ in REFUSALS}
    async with desk_towards(postfix, limits=Limits(1, 100, 5.0)) as one:
        for number, local in enumerate(order):
            content = render(f"series-{number}", b"x").decode()
            finished = await one.attempt(f"{local}@x.example", mime=content)
            assert ended(finished) == endings.get(local, SENT), number
            assert told(finished)["messages"] == number + 1
    good = [number for number, local in enumerate(order) if local == "good"]
    for number in good:
        assert len(await postfix.mail.wait_for(f"X-Token: series-{number}.")) == 1
    assert len(postfix.mail.find("X-Token: series-")) == len(good)


async def test_many_at_once_mixed_with_refusals(postfix: Postfix) -> None:
    async with desk_towards(postfix, limits=Limits(3, 100, 5.0)) as one:
        locals_ = ["good", "unknown", "grey"] * 10
        mails = (
            one.attempt(f"{local}@x.example", mime=render(f"crowd-{number}", b"x").decode())
            for number, local in enumerate(locals_)
        )
        finished = await asyncio.gather(*mails)
    codes = {"good": 250, "unknown": 550, "grey": 450}
    assert [told(one)["code"] for one in finished] == [codes[local] for local in locals_]
    assert len(await postfix.mail.wait_for("X-Token: crowd-", 10)) == 10


async def test_more_refusals_than_it_bears(postfix: Postfix) -> None:
    """After 20 errors Postfix says 421 and leaves: no mail pays for that."""
    async with desk_towards(postfix, limits=Limits(1, 100, 5.0)) as one:
        finished = [await one.attempt(f"unknown{number}@x.example") for number in range(30)]
        assert {told(one)["code"] for one in finished} == {550}
        assert ended(await one.attempt("good@x.example")) == SENT
    assert "too many errors after" in postfix.log


async def test_it_notifies_as_asked(postfix: Postfix) -> None:
    """DSN: NOTIFY, ENVID, ORCPT and RET get there, for Postfix's report of success says them again."""
    dsn = {"notify": "SUCCESS", "ret": "HDRS", "envid": "postfix+1", "orcpt": "rfc822;first@x.example"}
    async with desk_towards(postfix) as one:
        assert ended(await one.attempt("good@x.example", dsn=dsn, mime=render("notified", b"secret body").decode())) == SENT
    [report] = await postfix.mail.wait_for("Original-Envelope-Id: postfix+1")
    assert (report.field("Return-Path"), report.field("Delivered-To")) == ("<>", "r@a.example")
    assert b"Original-Recipient: rfc822;first@x.example\r\n" in report.content
    assert b"Action: delivered\r\n" in report.content
    assert b"secret body" not in report.content
