"""A chain of strategies: what one refuses for good the next one gets, what is refused for now waits, the last one's word counts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import psycopg
import pytest

from tests.stack import Stack
from tests.support.background import Background
from tests.support.ledger import Mail
from tests.support.mx import Script, ScriptedMx
from tests.support.queues import Got, Queues
from tests.support.seal_service import SealService
from tests.support.waiting import wait_until

SENDER = "r@taken.example"
CHAINS = {"seal-first": ["seal", "smtp"], "smtp-first": ["smtp", "seal"], "seal-only": ["seal"], "smtp-only": ["smtp"]}
"""Tag → chain."""
REFUSED_BY_SEAL = "reject"
REFUSED_BY_SMTP = "fail-rcptto-550"
TEMPFAIL_AT_SMTP = "fail-rcptto-451"


@dataclass(frozen=True)
class World:
    """Router, both senders and the recorder; a mail host that takes all for taken.example; a seal service."""

    stack: Stack
    mx: ScriptedMx
    seal: SealService

    @property
    def queues(self) -> Queues:
        """The broker's."""
        return Queues(self.stack.env["RABBITMQ_ADDRESS"])

    def send(self, recipient: str, *tags: str, **properties: Any) -> str:
        """A mail that came in by SMTP; its id."""
        ident = str(uuid4())
        document = {
            "id": ident,
            "transaction": ident,
            "channel": "smtp",
            "seen": _time(0),
            "envelope": SENDER,
            "recipient": recipient,
            "tags": list(tags),
            "mime": f"From: {SENDER}\r\nSubject: x\r\nX-Token: {ident}\r\n\r\nx\r\n",
        }
        self.queues.publish(document | properties, key="inbox", app_id="mailwarren")
        return ident

    def wait_result(self, queue: str, ident: str, within: float = 40) -> dict[str, Any]:
        """The final result of the mail, in ``queue``."""
        found = wait_until(
            lambda: [got for got in self.queues.take(queue) if got.document["id"] == ident], within=within, every=0.2
        )
        return found[0].document

    def sent(self, ident: str) -> list[Mail]:
        """What the mail host has of it."""
        return [mail for mail in self.mx.ledger.mails() if mail.token == ident]

    def is_report(self, mail: Mail, ident: str) -> bool:
        """A notification about it."""
        return mail.reverse_path == "" and ident.encode() in mail.content

    def sealed(self, ident: str) -> list[Mail]:
        """What the seal service has of it."""
        return [mail for mail in self.seal.ledger.mails() if mail.token == ident]


def _time(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")


def attempts(result: dict[str, Any]) -> list[tuple[int, str, str, int]]:
    """(number, strategy, result, code) of each."""
    return [(one["attempt"], one["strategy"], one["result"], one["code"]) for one in result["results"]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for the module."""
    folder = tmp_path_factory.mktemp("chain")
    with Background() as background, Stack(services=()) as stack:
        mx = background.enter(ScriptedMx(folder / "mx", script=Script({"*@taken.example": ["ok"]})))
        seal = background.enter(SealService(folder / "seal"))
        with psycopg.connect(stack.env["DB_URI"], autocommit=True) as connection:
            for number, (tag, outbound) in enumerate(CHAINS.items()):
                configuration = {"params": {"tag": tag}, "outbound": outbound}
                if tag == "smtp-only":
                    configuration["rewrite"] = {"headers": {"append": {"X-Rule": "1"}}, "tags": ["more"]}
                connection.execute(
                    "INSERT INTO delivery_configurations (name, priority, configuration, created_at, updated_at)"
                    " VALUES (%s, %s, %s, 0, 0)",
                    (tag, number, orjson.dumps(configuration).decode()),
                )
        stack.start("router", ROUTER_DEFAULT="seal")
        stack.start("smtp-sender", SMTP_SINK_ADDRESS=mx.address, RETRY_INTERVAL="1")
        stack.start("seal-sender", OUTBOUND_SEAL_ADDR=seal.url, RETRY_INTERVAL="1")
        stack.start("result-recorder")
        yield World(stack, mx, seal)


def test_refused_by_seal_it_goes_by_smtp(world: World) -> None:
    ident = world.send(f"{REFUSED_BY_SEAL}+1@taken.example", "seal-first")
    result = world.wait_result("success", ident)
    assert attempts(result) == [(1, "seal", "error", 554), (2, "smtp", "accepted", 250)]
    assert not result.get("outbound")
    assert (len(world.sent(ident)), len(world.sealed(ident))) == (1, 0)


def test_refused_by_smtp_it_is_sealed(world: World) -> None:
    ident = world.send(f"{REFUSED_BY_SMTP}+1@other.example", "smtp-first")
    result = world.wait_result("success", ident)
    assert attempts(result) == [(1, "smtp", "error", 550), (2, "seal", "accepted", 250)]
    assert (len(world.sent(ident)), len(world.sealed(ident))) == (0, 1)


@pytest.mark.parametrize("tag", ["seal-first", "smtp-first"])
def test_the_first_that_takes_it_ends_the_chain(world: World, tag: str) -> None:
    ident = world.send("ok@taken.example", tag)
    assert attempts(world.wait_result("success", ident)) == [(1, CHAINS[tag][0], "accepted", 250)]
    assert len(world.sent(ident)) + len(world.sealed(ident)) == 1


@pytest.mark.parametrize(("tag", "codes"), [("seal-first", [554, 550]), ("smtp-first", [550, 554])])
def test_only_the_last_refusal_is_a_failure_and_told_once(world: World, tag: str, codes: Sequence[int]) -> None:
    world.queues.take("failures")
    ident = world.send(f"{REFUSED_BY_SEAL}+{tag}@other.example", tag)
    failures: list[Got] = []

    def told() -> bool:
        failures.extend(world.queues.take("failures"))
        return any(got.document["id"] == ident for got in failures)

    wait_until(told, within=40, every=0.2)
    result = next(got.document for got in failures if got.document["id"] == ident)
    assert attempts(result) == [(number, CHAINS[tag][number - 1], "error", code) for number, code in enumerate(codes, 1)]
    with psycopg.connect(world.stack.env["DB_URI"]) as connection:
        row = wait_until(
            lambda: connection.execute(
                "SELECT status FROM message_status WHERE id = %s AND status = 'failed'", [ident]
            ).fetchone(),
            within=20,
        )
    assert row == ("failed",)
    [report] = wait_until(lambda: [mail for mail in world.mx.ledger.mails() if world.is_report(mail, ident)], within=20)
    assert report.recipient == SENDER
    assert [got.document["id"] for got in failures].count(ident) == 1


def test_a_refusal_for_now_does_not_move_on(world: World) -> None:
    ident = world.send("grey-1+1@taken.example", "seal-first")
    assert attempts(world.wait_result("success", ident)) == [(1, "seal", "error", 451), (2, "seal", "accepted", 250)]
    assert world.sent(ident) == []


@pytest.mark.parametrize(
    ("tag", "recipient", "limits", "code"),
    [
        ("seal-first", "tempfail+cap@taken.example", {"maxattempts": 2}, 451),
        ("smtp-first", f"{TEMPFAIL_AT_SMTP}+cap@other.example", {"maxattempts": 2}, 451),
        ("seal-first", "tempfail+late@taken.example", {"maxdelivertime": 4}, 451),
        ("smtp-first", f"{TEMPFAIL_AT_SMTP}+late@other.example", {"maxdelivertime": 4}, 451),
    ],
    ids=["attempts-seal", "attempts-smtp", "time-seal", "time-smtp"],
)
def test_running_out_of_time_or_attempts_ends_the_chain(
    world: World, tag: str, recipient: str, limits: dict[str, int], code: int
) -> None:
    properties: dict[str, Any] = {name: _time(value) if name == "maxdelivertime" else value for name, value in limits.items()}
    ident = world.send(recipient, tag, **properties)
    result = world.wait_result("failures", ident)
    assert {one["strategy"] for one in result["results"]} == {CHAINS[tag][0]}
    assert result["results"][-1]["code"] == code or result["results"][-1]["result"] == "timeout"
    assert result["outbound"] == CHAINS[tag][1:]
    assert (world.sent(ident), world.sealed(ident)) == ([], [])


def test_an_explicit_strategy_has_no_chain(world: World) -> None:
    ident = world.send(f"{REFUSED_BY_SEAL}+asked@taken.example", "seal-first", strategy="seal")
    assert attempts(world.wait_result("failures", ident)) == [(1, "seal", "error", 554)]
    assert world.sent(ident) == []


def test_a_retry_does_not_pass_the_rules_again(world: World) -> None:
    """Or the header and the tag would be added again."""
    ident = world.send(f"{TEMPFAIL_AT_SMTP}-1+again@other.example", "smtp-only")
    result = world.wait_result("success", ident)
    assert attempts(result) == [(1, "smtp", "error", 451), (2, "smtp", "accepted", 250)]
    assert result["tags"] == ["smtp-only", "more"]
    [mail] = world.sent(ident)
    assert mail.content.count(b"X-Rule: 1\r\n") == 1


def test_what_we_write_ourselves_passes_no_rules(world: World) -> None:
    """The report to the sender: a rule (here router-default) would seal it, and its own failure would be the next report."""
    ident = world.send("reject-550+report@other.example", "smtp-only")
    world.wait_result("failures", ident)
    [report] = wait_until(
        lambda: [mail for mail in world.mx.ledger.mails() if mail.reverse_path == "" and ident.encode() in mail.content],
        within=20,
    )
    assert report.recipient == SENDER
    assert b"\r\nAuto-Submitted: auto-replied\r\n" in report.content
    assert not [mail for mail in world.seal.ledger.mails() if mail.reverse_path == ""]
    assert world.queues.count("inbox") == 0


def test_published_twice_the_chain_runs_once(world: World) -> None:
    """As after a crash of the first sender between its publish and its ack."""
    ident = world.send(f"{REFUSED_BY_SEAL}+twice@taken.example", "seal-first")
    result = world.wait_result("success", ident)
    before = {name: value for name, value in result.items() if name != "results"}
    asked = world.seal.requests[result["recipient"]]
    mime = {"mime": f"X-Token: {ident}\r\n\r\nx\r\n"}
    world.queues.publish(before | mime | {"outbound": ["smtp"]}, key="seal", app_id="mailwarren")
    other = world.send("ok+after@taken.example", "seal-first")
    world.wait_result("success", other)
    wait_until(lambda: world.queues.count("seal") == 0, within=20)
    assert world.seal.requests[result["recipient"]] == asked
    assert len(world.sent(ident)) == 1


def test_a_sender_killed_amid_a_chain_loses_nothing(world: World) -> None:
    idents = [world.send(f"{REFUSED_BY_SEAL}+{number}@taken.example", "seal-first") for number in range(40)]
    mark = sum(world.seal.requests.values())
    more = [world.send(f"{REFUSED_BY_SEAL}+k{number}@taken.example", "seal-first") for number in range(40)]
    wait_until(lambda: sum(world.seal.requests.values()) > mark, within=20)
    for pid in world.stack.pids("seal-sender"):
        os.kill(pid, signal.SIGKILL)
    world.stack.wait_ready("seal-sender")
    tokens = {*idents, *more}
    wait_until(lambda: tokens <= {mail.token for mail in world.mx.ledger.mails()}, within=60, every=0.2)
    wait_until(lambda: world.queues.count("seal") + world.queues.count("outbox") == 0, within=20)
    world.wait_result("success", world.send("ok+behind@taken.example", "smtp-first"))
    assert all(len(world.sent(ident)) == 1 for ident in tokens)
    assert not any(world.sealed(ident) for ident in tokens)
