"""What a rule may ask of a mail: international domains, repeated and encoded headers, and mail that brings only its content."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from shared.delivery.rule_params import Facts, explain_mismatch, list_some, parse_params, prepare, spell_domain
from shared.mail.headers import parse_extract
from shared.wire.message import Message

CONTENT = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <a@x.example>\r\nSubject: =?utf-8?b?R2Vow6RsdA==?= for May\r\nSubject: second\r\n"
    b"Received: one\r\nReceived: two\r\nX-Kind:  Bulk \r\nX-Empty:\r\n\r\nx\r\n"
)


def explain(params: dict[str, Any], **document: Any) -> str | None:
    facts = Facts(Message({"id": "1", "seen": "2026-03-01 12:00:00"} | document))
    return explain_mismatch(facts, prepare(parse_params(params)))


def takes(params: dict[str, Any], **document: Any) -> bool:
    return explain(params, **document) is None


@pytest.mark.parametrize(
    ("params", "is_match"),
    [
        ({"subject": "gehält for may"}, True),
        ({"subject": "GEHA\u0308LT*"}, True),
        ({"subject": "gehalt*"}, False),
        ({"subject": "=?utf-8*"}, False),
        ({"subject": "second"}, True),
        ({"header.subject": "=?utf-8?b?R2Vow6RsdA==?= for may"}, True),
        ({"header.subject": "gehält*"}, True),
        ({"header.from": "*jürgen*"}, True),
        ({"header.from": "=?utf-8?q?J=C3=BCrgen?= <a@x.example>"}, True),
        ({"header.FROM": "*A@X.example*"}, True),
        ({"header.received": "one"}, True),
        ({"header.received": ["zero", "t*o"]}, True),
        ({"header.received": "one*two"}, False),
        ({"header.x-kind": "bulk"}, True),
        ({"header.x-empty": ""}, True),
        ({"header.x-empty": "*"}, True),
        ({"header.x-other": "*"}, False),
        ({"header.x-other": ""}, False),
        ({"size_over": len(CONTENT) - 1}, True),
        ({"size_over": len(CONTENT)}, False),
    ],
    ids=ascii,
)
def test_subject_headers_and_size(params: dict[str, Any], is_match: bool) -> None:
    """The same for mail of an inbox and for mail that an application published with its content."""
    assert takes(params, extracted=parse_extract(CONTENT), size=len(CONTENT)) is is_match
    assert takes(params, mime=CONTENT.decode()) is is_match
    assert takes(params, mime64=base64.b64encode(CONTENT).decode()) is is_match


def test_structured_mail_is_looked_at_as_it_will_be() -> None:
    mime = {"from": "a@x.example", "to": "b@x.example", "subject": "Gehält", "text": "x" * 2000, "headers": {"X-Kind": "bulk"}}
    assert takes({"subject": "gehält", "header.x-kind": "bulk", "header.to": "*b@x*", "size_over": 2000}, mime=mime)
    assert not takes({"size_over": 4000}, mime=mime)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"key": "their/own"},
        {"mime": 7},
        {"mime64": "%"},
        {"mime": {"colour": "red"}},
        {"mime": {"subject": ["x"]}},
        {"extracted": {"subject": 7, "headers": {"x": 7}}, "size": "x"},
    ],
    ids=str,
)
def test_a_content_that_is_not_at_hand(document: dict[str, Any]) -> None:
    """Or that cannot be sent: the sender says why."""
    assert not takes({"subject": "*x*"}, **document)
    assert not takes({"header.to": "*"}, **document)
    assert not takes({"size_over": 0}, **document)


def test_a_mail_without_a_subject() -> None:
    none = parse_extract(b"From: a@x.example\r\n\r\nx\r\n")
    assert takes({"subject": ""}, extracted=none)
    assert takes({"subject": "*"}, extracted=none)
    assert not takes({"subject": "*a*"}, extracted=none)


U, A = "bücher.example", "xn--bcher-kva.example"


@pytest.mark.parametrize("mail", [U, A, "BÜCHER.Example", "bu\u0308cher.example", A.upper()], ids=ascii)
@pytest.mark.parametrize(
    ("pattern", "is_match"),
    [(U, True), (A, True), (U.upper(), True), ("bü*", True), ("xn--bcher*", True), ("bucher.example", False), ("b?cher*", False)],
    ids=ascii,
)
def test_an_international_domain_in_either_spelling(mail: str, pattern: str, is_match: bool) -> None:
    assert takes({"recipient_domain": pattern}, recipient=f"a@{mail}") is is_match
    assert takes({"sender_domain": pattern}, envelope=f"a@{mail}") is is_match
    assert takes({"recipient": f"*@{pattern}"}, recipient=f"A@{mail}") is is_match
    assert takes({"sender": f"a@{pattern}"}, envelope=f"A@{mail}") is is_match


def test_domains_that_only_look_the_same_are_two() -> None:
    assert not takes({"recipient_domain": "strasse.example"}, recipient="a@straße.example")
    assert takes({"recipient_domain": "straße.example"}, recipient="a@xn--strae-oqa.example")


@pytest.mark.parametrize(
    "address",
    ["a@xn--a", "a@xn--.example", "xn--" * 100_000, "ü" * 100_000, "ü@a@b", "@ü", "a@ü..x", "\ud800@x"],
    ids=lambda text: ascii(text)[:20],
)
def test_an_address_that_is_none_stays_as_it_is(address: str) -> None:
    began = time.process_time()
    assert address in spell_domain(address)
    assert not takes({"recipient": "b@x"}, recipient=address)
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize("pattern", ["", "<>"], ids=["empty", "brackets"])
def test_the_null_reverse_path(pattern: str) -> None:
    for envelope in ("", "<>", None):
        assert takes({"sender": pattern}, envelope=envelope)
    assert not takes({"sender": pattern}, envelope="a@b")
    assert takes({"sender_domain": ""}, envelope="")


@pytest.mark.parametrize(
    ("tags", "is_match"),
    [(["News", "x"], True), (["y"], False), ([], False), ("news", True), (None, False), ([7], False)],
    ids=str,
)
def test_tags(tags: Any, is_match: bool) -> None:
    assert takes({"tag": ["z", "new*"]}, tags=tags) is is_match


@pytest.mark.parametrize("channel", ["SMTP", "json", "amqp", "Actions", "s*"])
def test_channels_there_are(channel: str) -> None:
    assert parse_params({"channel": channel}) == {"channel": (channel,)}


def test_many_parameters_must_all_match() -> None:
    params = {"channel": "json", "sender": "*@a.example", "recipient_domain": ["x.example", "y.example"], "tag": "t"}
    mail = {"channel": "json", "envelope": "me@a.example", "recipient": "you@Y.example", "tags": ["t"]}
    assert takes(params, **mail)
    for name, other in (("channel", "smtp"), ("envelope", "me@b.example"), ("recipient", "you@z.example"), ("tags", [])):
        assert not takes(params, **mail | {name: other})


def test_why_not_in_words_that_fit_on_a_screen() -> None:
    many = [f"d{number}.example" for number in range(1000)]
    assert explain({"recipient_domain": many}, recipient="a@x.example") == (
        "recipient_domain: x.example does not match d0.example or d1.example or d2.example or 997 more"
    )
    assert explain({"sender": ""}, envelope="a@b") == "sender: a@b does not match ''"
    assert explain({"sender": "*@x"}, envelope="") == "sender: nothing does not match *@x"
    assert explain({"size_over": 5}) == "size_over: unknown is not over 5"
    assert len(list_some(["x" * 10_000] * 10, ", ")) < 200
