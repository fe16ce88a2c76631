"""Traces through real processes into a real collector; and what is left of them without one, or with one that is of no use."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.seal_sender.client import SealClient
from services.seal_sender.settings import ServiceSettings
from shared.settings import load
from shared.tracing import Hop, enter
from shared.wire.trace import Trace
from tests.stack import Stack
from tests.support.background import Background
from tests.support.mx import ScriptedMx
from tests.support.otlp import Collector, Seen
from tests.support.queues import Got, Queues
from tests.support.waiting import wait_until

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STATE = "shop=t61rcWkgMzE,other@x=1"
CLIENT = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": STATE}
SERVER, CONSUMER = 2, 5
"""Kinds of spans on the wire."""
BROKER = {"messaging.system": "rabbitmq", "messaging.operation.type": "process"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    """Takes everything."""
    with Collector() as collector:
        yield collector


def post(stack: Stack, recipient: str, headers: dict[str, str] | None = None) -> str:
    """Send by HTTP; the mail's id."""
    mail = {
        "envelope": "news@shop.example",
        "recipient": recipient,
        "mime": "From: news@shop.example\r\nSubject: secret\r\n\r\nx\r\n",
    }
    answer = httpx.post(f"{stack.env['HTTP_ADDRESS']}/v1/messages", json=mail, headers=headers)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["messages"][0]["id"])


def wait_for(stack: Stack, queue: str, ident: str) -> Got:
    """The message about the mail."""
    queues = Queues(stack.env["RABBITMQ_ADDRESS"])
    return wait_until(lambda: [got for got in queues.take(queue) if got.document["id"] == ident], within=40, every=0.2)[0]


def wait_spans(collector: Collector, trace_id: str, count: int) -> list[Seen]:
    """The spans of a trace, parents first."""

    def look() -> list[Seen]:
        found = {span.parent_id: span for span in collector.spans if span.trace_id == trace_id}
        known = {span.span_id for span in found.values()}
        place = next((parent for parent in found if parent not in known), "")
        chain = []
        while place in found:
            chain.append(found[place])
            place = found[place].span_id
        return chain if len(chain) == count else []

    return wait_until(look, within=20, what=f"{count} spans in a chain among {collector.spans}")


@pytest.mark.long
def test_from_the_client_through_a_retry_to_the_records(pipeline: Stack, collector: Collector, tmp_path: Path) -> None:
    with Background() as background:
        mx = background.enter(ScriptedMx(tmp_path / "mx"))
        for service in ("json-inbox", "smtp-inbox", "router", "result-recorder"):
            pipeline.start(service, OTLP_ENDPOINT=collector.endpoint)
        pipeline.start("smtp-sender", SMTP_SINK_ADDRESS=mx.address, RETRY_INTERVAL="1", OTLP_ENDPOINT=collector.endpoint)
        ident = post(pipeline, "grey+somebody@good.example", CLIENT)
        host, _, port = pipeline.env["SMTP_INBOX_ADDRESS"].rpartition(":")
        content = f"traceparent: {CLIENT['traceparent']}\r\nSubject: secret\r\n\r\nx\r\n"
        with smtplib.SMTP(host, int(port)) as client:
            client.sendmail("news@shop.example", ["ok+other@good.example"], content)
        result = wait_for(pipeline, "success", ident)

        posted, routed, first, second = wait_spans(collector, TRACE, 4)
        check_inboxes(posted, routed)
        check_attempts(ident, first, second)
        assert {name: result.headers[name] for name in CLIENT} == CLIENT | {"traceparent": f"00-{TRACE}-{second.span_id}-01"}
        wait_until(lambda: {posted.span_id, first.span_id, second.span_id} <= links(collector, TRACE), within=20)
        (received,) = wait_until(lambda: collector.named("smtp receive"), within=20)
        assert (received.parent_id, received.trace_id == TRACE) == ("", False)
        assert (received.facts["mailwarren.code"], received.facts["mailwarren.recipients"]) == (250, 1)
        chain = wait_spans(collector, received.trace_id, 3)
        assert [span.name for span in chain] == ["smtp receive", "route inbox", "deliver outbox"]
        told = repr(collector.spans)
        assert not [word for word in ("somebody", "good.example", "shop.example", "secret") if word in told]


def check_inboxes(posted: Seen, routed: Seen) -> None:
    """The spans of json-inbox and router."""
    assert (posted.service, posted.name, posted.kind, posted.parent_id) == ("json-inbox", "POST /v1/messages", SERVER, SPAN)
    assert (posted.facts["http.route"], posted.facts["http.response.status_code"]) == ("/v1/messages", 202)
    assert (posted.state, posted.is_error, routed.is_error) == (STATE, False, False)
    assert (routed.service, routed.name, routed.kind) == ("router", "route inbox", CONSUMER)
    facts = BROKER | {"messaging.destination.name": "inbox", "mailwarren.strategy": "smtp"}
    assert facts.items() <= routed.facts.items()


def check_attempts(ident: str, first: Seen, second: Seen) -> None:
    """The spans of smtp-sender."""
    for span, expected in ((first, [1, "retry", 451]), (second, [2, "delivered", 250])):
        assert (span.service, span.name, span.facts["mailwarren.id"]) == ("smtp-sender", "deliver outbox", ident)
        assert [span.facts[f"mailwarren.{name}"] for name in ("attempt", "verdict", "code")] == expected
    assert (first.is_error, first.facts["error.type"], second.is_error) == (True, "rcptto/error", False)


def links(collector: Collector, trace_id: str) -> set[str]:
    """The spans of a trace that batches of the recorder are linked to."""
    spans = collector.named("record records")
    return {span_id for span in spans for linked, span_id in span.links if linked == trace_id}


def test_without_a_collector_a_trace_is_passed_on_and_none_is_begun(pipeline: Stack, tmp_path: Path) -> None:
    with Background() as background:
        mx = background.enter(ScriptedMx(tmp_path / "mx"))
        for service in ("json-inbox", "router"):
            pipeline.start(service)
        pipeline.start("smtp-sender", SMTP_SINK_ADDRESS=mx.address, RETRY_INTERVAL="1")
        with_trace, without = post(pipeline, "grey+1@good.example", CLIENT), post(pipeline, "ok+2@good.example")
        broken = post(pipeline, "ok+3@good.example", CLIENT | {"traceparent": "00-" + "0" * 32 + f"-{SPAN}-01"})
        results = {got.document["id"]: got.headers for got in _take(pipeline, "success", 3)}
        records = [got.headers for got in _take(pipeline, "records", 7)]
        assert {name: results[with_trace].get(name) for name in CLIENT} == CLIENT
        assert not [name for ident in (without, broken) for name in CLIENT if name in results[ident]]
        assert [headers for headers in records if headers.get("traceparent") == CLIENT["traceparent"]]
        for service in ("json-inbox", "router", "smtp-sender"):
            assert not [pid for pid in pipeline.pids(service) if "protobuf" in Path(f"/proc/{pid}/maps").read_text()]


def _take(stack: Stack, queue: str, count: int) -> list[Got]:
    queues = Queues(stack.env["RABBITMQ_ADDRESS"])
    taken: list[Got] = []

    def look() -> bool:
        taken.extend(queues.take(queue))
        return len(taken) >= count

    wait_until(look, within=40, every=0.2, what=f"{count} messages in {queue}")
    return taken


async def test_the_seal_service_is_told_the_trace() -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n{"id":"1"}')
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = SealClient(load(ServiceSettings, options={"outbound-seal-addr": address}).settings)
        for hop in (Hop(Trace(**CLIENT)), None):
            with enter(hop):
                await client.send(b"x\r\n", envelope="", recipient="a@good.example", ident="id-1")
        await client.close()
    with_trace, without = (head.decode().split("\r\n") for head in heads)
    assert {f"{name}: {value}" for name, value in CLIENT.items()} <= set(with_trace)
    assert not [line for line in without if line.lower().startswith("trace")]


def test_a_collector_that_never_answers_holds_nothing_up(pipeline: Stack) -> None:
    with Collector("silent") as silent:
        pipeline.start("json-inbox", OTLP_ENDPOINT=silent.endpoint, TRACE_SAMPLE="0.5")
        sent = [post(pipeline, f"ok+{number}@good.example") for number in range(30)]
        wait_until(lambda: silent.requests, within=20)
        sent += [post(pipeline, f"ok+{number}@good.example") for number in range(30)]
        flags = {got.document["id"]: got.headers["traceparent"][-2:] for got in _take(pipeline, "inbox", len(sent))}
        # Of 60, all or none with one in 10^18.
        assert (set(flags), set(flags.values())) == (set(sent), {"00", "01"})
        pipeline.stop("json-inbox")
    assert '"stopped"' in pipeline.log("json-inbox").read_text()
