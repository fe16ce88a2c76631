"""Which way does a mail go? Rules as a pure function."""

from __future__ import annotations

import re
from typing import Any

import pytest

from shared.delivery.rules import Rule, decide_route, explain_route, find_mismatch, order_rules, parse_rule
from shared.wire.message import Message

MAIL = Message(
    {
        "id": "1",
        "channel": "smtp",
        "envelope": "Anna@Clinic.example",
        "recipient": "Bob@Example.NET",
        "size": 1000,
        "tags": ["vip", "Invoice"],
        "extracted": {
            "subject": "Your LAB results",
            "headers": {"x-secure": "yes", "received": ["one", "two"], "subject": "Your LAB results"},
        },
    }
)


def rule(name: str = "r", priority: int = 0, outbound: tuple[str, ...] = ("seal",), **params: Any) -> Rule:
    given = {key.replace("__", ".").replace("x_", "x-"): value for key, value in params.items()}
    return parse_rule({"name": name, "priority": priority, "configuration": {"params": given, "outbound": list(outbound)}})


@pytest.mark.parametrize(
    ("params", "is_match"),
    [
        ({}, True),
        ({"channel": "smtp"}, True),
        ({"channel": "SMTP"}, True),
        ({"channel": ["json", "smtp"]}, True),
        ({"channel": "json"}, False),
        ({"sender": "anna@clinic.example"}, True),
        ({"sender": "*@clinic.example"}, True),
        ({"sender": "clinic.example"}, False),
        ({"sender_domain": "clinic.example"}, True),
        ({"sender_domain": "*.example"}, True),
        ({"sender_domain": "linic.example"}, False),
        ({"recipient": "bob@*"}, True),
        ({"recipient": "*bob*example*"}, True),
        ({"recipient_domain": "example.net"}, True),
        ({"recipient_domain": ["a.example", "EXAMPLE.net"]}, True),
        ({"subject": "*lab*"}, True),
        ({"subject": "lab"}, False),
        ({"tag": "invoice"}, True),
        ({"tag": ["x", "v*"]}, True),
        ({"tag": "x"}, False),
        ({"header.X-Secure": "yes"}, True),
        ({"header.x-secure": "no"}, False),
        ({"header.received": "two"}, True),
        ({"header.x-missing": "*"}, False),
        ({"size_over": 999}, True),
        ({"size_over": 1000}, False),
        ({"channel": "smtp", "tag": "vip", "size_over": 10}, True),
        ({"channel": "smtp", "tag": "vip", "size_over": 10_000}, False),
    ],
)
def test_what_matches(params: dict[str, Any], is_match: bool) -> None:
    one = parse_rule({"name": "r", "configuration": {"params": params, "outbound": ["seal"]}})
    assert (find_mismatch(MAIL, one) is None) == is_match


def test_a_mail_without_anything() -> None:
    bare = Message({"id": "1"})
    assert find_mismatch(bare, rule()) is None
    assert find_mismatch(bare, rule(channel="amqp")) is None
    assert find_mismatch(bare, rule(sender="")) is None
    for params in ({"subject": "*"}, {"tag": "*"}, {"header.to": "*"}, {"size_over": 0}):
        one = parse_rule({"name": "r", "configuration": {"params": params, "outbound": ["smtp"]}})
        assert find_mismatch(bare, one) is not None


def test_lower_priority_first_then_by_name() -> None:
    rules = [rule("b", 5), rule("z", -1), rule("a", 5), rule("y", 0)]
    assert [one.name for one in order_rules(rules)] == ["z", "y", "a", "b"]


def test_the_first_that_matches_decides() -> None:
    rules = order_rules([rule("late", 9, ("smtp",)), rule("early", 1, ("seal", "smtp"), tag="vip"), rule("no", 0, tag="x")])
    route = decide_route(MAIL, rules, default="smtp")
    assert (route.outbound, route.reason) == (("seal", "smtp"), "rule early")
    found, passed = explain_route(MAIL, list(reversed(rules)), default="smtp")
    assert found == route
    assert passed == [
        ("no", "tag: vip, Invoice does not match x"),
        ("early", "matches"),
        ("late", "matches, but a rule before it has the mail"),
    ]


@pytest.mark.parametrize(
    ("strategy", "outbound"), [("smtp", ("smtp",)), ("seal", ("seal",)), ("pigeon", ()), (7, ()), (["seal"], ())]
)
def test_the_message_asks_and_wins(strategy: Any, outbound: tuple[str, ...]) -> None:
    asking = MAIL.with_properties({"strategy": strategy})
    route = decide_route(asking, [rule(outbound=("smtp", "seal"))], default="smtp")
    assert route.outbound == outbound
    if not outbound:
        assert "expected one of smtp, seal" in route.reason


def test_no_rule_matches() -> None:
    for default, outbound in (("smtp", ("smtp",)), ("seal", ("seal",)), ("fail", ())):
        route = decide_route(MAIL, [rule(tag="nothing")], default=default)
        assert (route.outbound, f"router-default is {default}" in route.reason) == (outbound, True)


GOOD = {"name": "r", "priority": 1, "configuration": {"params": {}, "outbound": ["smtp"]}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"priority": "1"}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 2**31}, "priority"),
        ({"configuration": None}, "configuration: "),
        ({"configuration": []}, "configuration: "),
        ({"colour": "red"}, "colour: unknown"),
        ({"configuration": {"outbound": ["smtp"], "colour": 1}}, "configuration.colour: unknown"),
        ({"configuration": {"outbound": ["smtp"], "rewrite": []}}, "configuration.rewrite: "),
        ({"configuration": {"outbound": ["smtp"], "rewrite": {"pool": 7}}}, "configuration.rewrite.pool: "),
        ({"configuration": {"outbound": ["smtp"], "params": {"sender": "a\0"}}}, "configuration: a text in it contains NUL"),
        ({"configuration": {"params": [], "outbound": ["smtp"]}}, "configuration.params: "),
        ({"configuration": {"params": {"colour": "red"}, "outbound": ["smtp"]}}, "configuration.params.colour: unknown"),
        ({"configuration": {"params": {"header.": "x"}, "outbound": ["smtp"]}}, "configuration.params.header.: unknown"),
        ({"configuration": {"params": {"header.a b": "x"}, "outbound": ["smtp"]}}, "configuration.params.header.a b: unknown"),
        ({"configuration": {"params": {"header.x:": "x"}, "outbound": ["smtp"]}}, "configuration.params.header.x:: unknown"),
        (
            {"configuration": {"params": {"channel": "http"}, "outbound": ["smtp"]}},
            "configuration.params.channel: 'http': expected one of",
        ),
        (
            {"configuration": {"params": {"sender_domain": "@a.example"}, "outbound": ["smtp"]}},
            "configuration.params.sender_domain: '@a.example': expected a domain, without @",
        ),
        ({"configuration": {"params": {"size_over": 2**70}, "outbound": ["smtp"]}}, "configuration.params.size_over: "),
        ({"configuration": {"params": {"tag": []}, "outbound": ["smtp"]}}, "configuration.params.tag: "),
        ({"configuration": {"params": {"tag": 7}, "outbound": ["smtp"]}}, "configuration.params.tag: "),
        ({"configuration": {"params": {"tag": ["a", 7]}, "outbound": ["smtp"]}}, "configuration.params.tag: "),
        ({"configuration": {"params": {"size_over": "1"}, "outbound": ["smtp"]}}, "configuration.params.size_over: "),
        ({"configuration": {"params": {"size_over": -1}, "outbound": ["smtp"]}}, "configuration.params.size_over: "),
        ({"configuration": {"params": {}}}, "configuration.outbound: "),
        ({"configuration": {"outbound": []}}, "configuration.outbound: "),
        ({"configuration": {"outbound": "smtp"}}, "configuration.outbound: "),
        ({"configuration": {"outbound": ["pigeon"]}}, "configuration.outbound: 'pigeon': expected one of smtp, seal"),
        ({"configuration": {"outbound": ["smtp", "smtp"]}}, "expected each strategy once"),
    ],
)
def test_a_bad_rule_names_the_field(change: dict[str, Any], reason: str) -> None:
    assert parse_rule(GOOD).outbound == ("smtp",)
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}|{re.escape(reason)}$"):
        parse_rule(GOOD | change)
