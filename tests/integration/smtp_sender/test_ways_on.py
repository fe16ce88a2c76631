"""What a refusal leads to within one attempt, by the response patterns; and the content as the peer gets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dkim  # type: ignore[import-untyped]
import pytest

from tests.integration.smtp_sender.peers import scripted
from tests.integration.smtp_sender.sending import Desk, desk, what
from tests.support.mx import MxOptions, ScriptedMx
from tests.unit.shared.mail.signing_world import RSA, pem, record


@pytest.fixture
def patterns(tmp_path: Path) -> str:
    """A file of patterns."""
    return str(tmp_path / "patterns.toml")


def two(first: str, second: str) -> dict[str, object]:
    return {
        "two.example": {"MX": [(10, "first.example"), (20, "second.example")]},
        "first.example": {"A": first},
        "second.example": {"A": second},
    }


async def test_a_refusal_with_fallback_goes_to_the_next_mx(tmp_path: Path, patterns: str) -> None:
    async with (
        scripted(tmp_path / "1") as good,
        ScriptedMx(tmp_path / "2", listen=(f"127.0.0.4:{good.port}",), options=MxOptions(), connection=["fail-rcptto-550"]),
    ):
        async with desk(two("127.0.0.4", "127.0.0.1"), mx=good) as one:
            assert what(await one.send("ok@two.example")) == ("rcptto", "error")
        (tmp_path / "patterns.toml").write_text('[[pattern]]\nstate = "rcptto"\nfallback = true\n')
        async with desk(two("127.0.0.4", "127.0.0.1"), mx=good, response_patterns=patterns) as one:
            finished = await one.attempt("ok@two.example")
            assert what(finished.attempt.to_document()) == ("message", "accepted")
            assert (finished.host, finished.attempt.remote_ip) == ("second.example", "127.0.0.1")


async def test_a_refusal_with_fallback_goes_to_the_fallback_smarthost(tmp_path: Path, patterns: str) -> None:
    (tmp_path / "patterns.toml").write_text('[[pattern]]\nstate = "rcptto"\nfallback = true\n')
    async with scripted(tmp_path / "1", connection=["fail-rcptto-550"]) as mx, scripted(tmp_path / "2") as relay:
        ways: dict[str, Any] = {
            "fallback_smarthost": relay.host,
            "fallback_smarthost_port": relay.port,
            "response_patterns": patterns,
        }
        async with desk(mx=mx, **ways) as one:
            finished = await one.attempt("ok@x.example")
            assert what(finished.attempt.to_document()) == ("message", "accepted")
            assert finished.with_smarthost
            assert relay.ledger.count() == 1
        async with desk(mx=mx, response_patterns=patterns) as one:
            assert what(await one.send("ok@x.example")) == ("rcptto", "error")


async def test_five_strange_answers_in_a_row_and_a_host_rests(tmp_path: Path, patterns: str) -> None:
    (tmp_path / "patterns.toml").write_text('[[pattern]]\ncode = "458"\nstrange = true\n')
    async with scripted(tmp_path / "1") as mx, desk(mx=mx, response_patterns=patterns) as one:
        for number in range(4):
            assert (await one.send(f"fail-rcptto-458+{number}@x.example"))["code"] == 458
        assert (await one.send("ok@x.example"))["result"] == "accepted"
        for number in range(5):
            assert (await one.send(f"fail-rcptto-458+b{number}@x.example"))["code"] == 458
        before = mx.state.commands["MAIL"]
        assert "not tried again for a while" in (await one.send("ok@x.example"))["description"]
        assert mx.state.commands["MAIL"] == before


def mime_of(mx: ScriptedMx) -> bytes:
    [mail] = mx.ledger.mails()
    return mail.content


async def test_headers_are_edited_and_the_result_shows_them(tmp_path: Path) -> None:
    edits = {"prepend": {"X-First": "1"}, "replace": {"Subject": "new"}, "remove": "X-Old"}
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        mime = "X-Old: x\r\nSubject: old\r\nTo: b@x.example\r\n\r\nhello\r\n"
        finished = await one.attempt("ok@x.example", mime=mime, headers=edits)
        assert mime_of(mx) == b"X-First: 1\r\nSubject: new\r\nTo: b@x.example\r\n\r\nhello\r\n"
        assert finished.extracted is not None
        assert finished.extracted["headers"] == {"x-first": "1", "subject": "new", "to": "b@x.example"}


async def test_eight_bits_are_recoded_for_a_peer_that_takes_seven(tmp_path: Path) -> None:
    mime = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + "Grüße aus Köln, und viel Text dazu.\r\n" * 3
    async with scripted(tmp_path, options=MxOptions(eight_bit=False)) as mx, desk(mx=mx) as one:
        assert (await one.send("ok@x.example", mime=mime))["result"] == "accepted"
        assert mime_of(mx).isascii()
        signed = await one.send("ok@x.example", mime="DKIM-Signature: v=1; b=x\r\n" + mime)
        assert (what(signed), signed["code"], signed["status"]) == (("mailfrom", "error"), 554, "5.6.3")


async def test_a_nul_is_not_sent(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        result = await one.send("ok@x.example", mime="Subject: x\r\n\r\na\0b\r\n")
        assert what(result) == ("process", "invalid")
        assert "octet 15 is a NUL" in result["description"]
        assert mx.state.commands["MAIL"] == 0


def _is_valid(content: bytes) -> bool:
    return bool(dkim.verify(content, dnsfunc=lambda name, timeout=5: record(RSA)))


async def _signed(one: Desk, mx: ScriptedMx, **properties: object) -> bytes:
    assert (await one.send("ok@x.example", mime="From: a@shop.example\r\nSubject: x\r\n\r\nhello\r\n", **properties))[
        "code"
    ] == 250
    return mime_of(mx)


async def test_a_key_of_the_message_signs(tmp_path: Path) -> None:
    async with scripted(tmp_path) as mx, desk(mx=mx) as one:
        content = await _signed(one, mx, dkim={"domain": "shop.example", "selector": "s1", "key": pem(RSA)})
        assert content.startswith(b"DKIM-Signature:")
        assert _is_valid(content)


async def test_a_key_of_the_settings_signs_what_was_edited_and_recoded(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(pem(RSA))
    (tmp_path / "keys.toml").write_text('[[key]]\ndomain = "shop.example"\nselector = "s1"\nkey_file = "key.pem"\n')
    options = MxOptions(eight_bit=False)
    async with scripted(tmp_path, options=options) as mx, desk(mx=mx, dkim_keys=str(tmp_path / "keys.toml")) as one:
        mime = "From: a@shop.example\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße, Grüße, Grüße\r\n"
        assert (await one.send("ok@x.example", mime=mime, headers={"append": {"Subject": "s"}}))["code"] == 250
        content = mime_of(mx)
        assert content.isascii()
        assert b"Subject: s" in content
        assert _is_valid(content)
