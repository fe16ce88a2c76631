"""What a message asks of the sender: every property of messages.md 1 with good and with impossible values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.wire.instructions import Instructions, InvalidProperty, Security, Smarthost, parse_instructions
from shared.wire.message import Message

LATER = datetime(2026, 3, 2, 0, 0, 0, tzinfo=UTC)


def parse(**properties: Any) -> Instructions:
    document = {"recipient": "a@b.example"} | {name.replace("_", "-"): value for name, value in properties.items()}
    return parse_instructions(Message(document))


def test_nothing_asked() -> None:
    instructions = parse()
    assert instructions.recipient.address == "a@b.example"
    assert (instructions.reverse_path, instructions.strategy, instructions.outbound) == (None, None, ())
    assert (instructions.source_addresses, instructions.smarthost, instructions.security) == (None, None, None)
    assert (instructions.not_before, instructions.deadline, instructions.most_attempts) == (None, None, None)
    assert (instructions.intervals, instructions.queues, instructions.priority) == ((), {}, None)


GOOD: list[tuple[str, Any, str, Any]] = [
    ("strategy", "smtp", "strategy", "smtp"),
    ("strategy", "seal", "strategy", "seal"),
    ("strategy", None, "strategy", None),
    ("outbound", ["seal", "smtp"], "outbound", ("seal", "smtp")),
    ("outbound", [], "outbound", ()),
    ("ips", ["192.0.2.1", "2001:DB8::1"], "source_addresses", ("192.0.2.1", "2001:db8::1")),
    ("ips", [], "source_addresses", ()),
    ("smarthost", {"hostname": "relay.example"}, "smarthost", Smarthost("relay.example", 25)),
    ("smarthost", {"hostname": "192.0.2.1", "port": 587, "username": "u",
    "password": "p"}, "smarthost", Smarthost("192.0.2.1", 587, "u", "p")),
    ("security", "optional", "security", Security.OPTIONAL),
    ("security", "opportunistic", "security", Security.OPPORTUNISTIC),
    ("security", "required", "security", Security.REQUIRED),
    ("security", "verified", "security", Security.VERIFIED),
    ("nextattempt", {"time": "2026-03-02 00:00:00"}, "not_before", LATER),
    ("nextattempt", {}, "not_before", None),
    ("nextattempt", {"time": None}, "not_before", None),
    ("delayed", "2026-03-02 00:00:00", "not_before", LATER),
    ("maxdelivertime", "2026-03-02 00:00:00", "deadline", LATER),
    ("maxattempts", 0, "most_attempts", 0),
    ("maxattempts", 7, "most_attempts", 7),
    ("retries", [], "intervals", ()),
    ("retries", [60, 3600], "intervals", (timedelta(minutes=1), timedelta(hours=1))),
    ("retries", [10**8], "intervals", (timedelta(seconds=10**8),)),
    ("queues", {"success": "ok", "failure": None, "dsn": "x"}, "queues", {"success": "ok", "failure": None, "dsn": "x"}),
    ("queues", {"success": "k" * 255}, "queues", {"success": "k" * 255}),
    ("priority", 0, "priority", 0),
    ("priority", 255, "priority", 255),
    ("envelope", "r@a.example", "reverse_path", "r@a.example"),
    ("envelope", "", "reverse_path", None),
    ("envelope", "<>", "reverse_path", None),
    ("envelope", None, "reverse_path", None),
    ("recipient", '"odd > one"@[192.0.2.1]', "recipient", '"odd > one"@[192.0.2.1]'),
    ("recipient", "jürgen@münchen.example", "recipient", "jürgen@münchen.example"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "field", "expected"), GOOD)
def test_good(name: str, value: Any, field: str, expected: Any) -> None:
    found = getattr(parse(**{name: value}), field)
    if field in ("recipient", "reverse_path") and found is not None:
        found = found.address
    assert found == expected


@pytest.mark.parametrize(
    ("name", "value"), [("keepmime", v) for v in (True, False, 0, 1, None)] + [("force", 1), ("tags", ["a", "b"]), ("tags", [])]
)
def test_good_without_a_type_of_its_own(name: str, value: Any) -> None:
    assert parse(**{name: value})


BAD: list[tuple[str, Any, str]] = [
    ("recipient", None, "a mail address"),
    ("recipient", "", "a mail address"),
    ("recipient", 7, "a mail address"),
    ("recipient", ["a@b.example"], "a mail address"),
    ("recipient", "nobody", "there is no @"),
    ("recipient", "a@b.example, c@d.example", ""),
    ("recipient", "a@b.example\r\nDATA", "control"),
    ("recipient", "<a@b.example>", ""),
    ("envelope", 7, "a mail address"),
    ("envelope", ["a@b.example"], "a mail address"),
    ("envelope", "nobody", "there is no @"),
    ("envelope", "a@b.example>\r\nRCPT TO:<x@y.example", "control"),
    ("strategy", "pigeon", "one of smtp, seal"),
    ("strategy", ["smtp"], "one of smtp, seal"),
    ("strategy", "", "one of smtp, seal"),
    ("outbound", "seal", "a list of strategies"),
    ("outbound", ["pigeon"], "one of smtp, seal"),
    ("outbound", [["smtp"]], "a list of strategies"),
    ("ips", "192.0.2.1", "a list of IP addresses"),
    ("ips", ["192.0.2.256"], "an IP address"),
    ("ips", ["mx.example"], "an IP address"),
    ("ips", [3221225985], "a list of IP addresses"),
    ("smarthost", "relay.example", "an object with a hostname"),
    ("smarthost", {}, "an object with a hostname"),
    ("smarthost", {"hostname": ""}, "an object with a hostname"),
    ("smarthost", {"hostname": "r", "port": "25"}, "a whole number"),
    ("smarthost", {"hostname": "r", "port": 65536}, "a whole number"),
    ("smarthost", {"hostname": "r", "port": -1}, "a whole number"),
    ("smarthost", {"hostname": "r", "username": 7}, "username: expected a string"),
    ("smarthost", {"hostname": "r", "password": ["secret"]}, "password: expected a string"),
    ("security", "none", "one of optional, opportunistic, required, verified"),
    ("security", True, "one of optional"),
    ("nextattempt", "2026-03-02 00:00:00", "an object"),
    ("nextattempt", [], "an object"),
    ("nextattempt", {"time": "tomorrow"}, "YYYY-MM-DD"),
    ("nextattempt", {"time": 1772409600}, "YYYY-MM-DD"),
    ("delayed", "2026-03-02", "YYYY-MM-DD"),
    ("maxdelivertime", 3600, "YYYY-MM-DD"),
    ("maxdelivertime", "2026-03-02T00:00:00Z", "YYYY-MM-DD"),
    ("maxattempts", "3", "a whole number"),
    ("maxattempts", -1, "a whole number"),
    ("maxattempts", 2.0, "a whole number"),
    ("maxattempts", True, "a whole number"),
    ("retries", 60, "a list of seconds"),
    ("retries", ["60"], "a list of seconds"),
    ("retries", [60, True], "a list of seconds"),
    ("retries", [0], "each above 0"),
    ("retries", [-5], "each above 0"),
    ("retries", [10**8 + 1], "each above 0"),
    ("queues", [], "an object of routing keys"),
    ("queues", "success", "an object of routing keys"),
    ("queues", {"unknown": "x"}, "the names success, failure, results, retry, dsn"),
    ("queues", {"success": 7}, "an object of routing keys"),
    ("queues", {"sucess": "ok"}, "the names success, failure, results, retry, dsn"),
    ("queues", {"success": ""}, "a routing key of 1 to 255 bytes"),
    ("queues", {"success": "é" * 128}, "a routing key of 1 to 255 bytes"),
    ("priority", 256, "a whole number from 0 to 255"),
    ("priority", -1, "a whole number from 0 to 255"),
    ("priority", "high", "a whole number from 0 to 255"),
    ("keepmime", "no", "true, false, 0 or 1"),
    ("keepmime", 2, "true, false, 0 or 1"),
    ("keepmime", 1.0, "true, false, 0 or 1"),
    ("force", "yes", "true, false, 0 or 1"),
    ("tags", "vip", "a list of texts"),
    ("tags", ["vip", 7], "a list of texts"),
    ("dkim", {"domain": "a.example"}, "selector"),
    ("data", {"name": "Anna"}, "cannot honour it yet"),
    ("headers", {"remove": "X Y"}, "expected the name of a header"),
    ("inlinecss", True, "cannot honour it yet"),
    ("pool", ["main"], "the name of a pool"),
    ("dsn", {"notify": "SOMETIMES"}, "SUCCESS"),
]


@pytest.mark.parametrize(("name", "value", "reason"), BAD)
def test_the_error_names_the_property_and_what_was_expected(name: str, value: Any, reason: str) -> None:
    with pytest.raises(InvalidProperty) as refused:
        parse(**{name: value})
    assert str(refused.value).startswith(name)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "\r" not in str(refused.value)


@pytest.mark.parametrize("name", ["dkim", "data", "headers", "inlinecss", "pool", "dsn"])
@pytest.mark.parametrize("value", [None, False, {}, [], ""])
def test_what_asks_for_nothing_may_be_there_empty(name: str, value: Any) -> None:
    assert parse(**{name: value})


def test_every_property_of_the_specification_has_a_bad_value_here() -> None:
    free = {"mime", "mime64", "key", "message-id"}  # checked where they are used, or never used
    known = (
        "recipient envelope mime mime64 key keepmime data force inlinecss headers dkim dsn ips pool smarthost security nextattempt delayed "
        "maxdelivertime maxattempts retries queues tags priority strategy message-id outbound"
    )
    assert set(known.split()) - free == {name for name, _, _ in BAD}


def test_a_password_is_never_shown() -> None:
    for smarthost in (
        {"hostname": "r", "password": ["hunter2"]},
        {"password": "hunter2"},
        {"hostname": "r", "password": "hunter2", "port": "x"},
    ):
        with pytest.raises(InvalidProperty) as refused:
            parse(smarthost=smarthost)
        assert "hunter2" not in str(refused.value)


def test_a_long_value_is_cut() -> None:
    with pytest.raises(InvalidProperty) as refused:
        parse(strategy="x" * 100_000)
    assert len(str(refused.value)) < 300


def test_nextattempt_wins_over_its_alias() -> None:
    instructions = parse(nextattempt={"time": "2026-03-02 00:00:00"}, delayed="2027-01-01 00:00:00")
    assert instructions.not_before == LATER
