"""The main job, with all eight processes: every way in, every way to end. The mails are those of the demo, a test for each."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from deploy.demo.internet import Internet
from deploy.demo.look import Seen, find_mistakes, find_result, find_row, read_rows, spell_attempts, take_results
from deploy.demo.mails import MAILS, Expected
from deploy.demo.send import send_all, store_rules
from deploy.stack.addresses import metrics_name
from deploy.stack.services import OPTIONAL, SERVICES
from tests.stack import Stack
from tests.support.monitoring import QUEUES, fetch, find_names, list_series, read_alerts, read_expressions, read_page, read_shown
from tests.support.waiting import free_ports, wait_until

World = tuple[Seen, Internet, Stack]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All mails sent, and looked at after the last has come to its end."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    with ExitStack() as contexts:
        folder = tmp_path_factory.mktemp("internet")
        internet = contexts.enter_context(Internet(folder, notify=f"http://{address}/v1/messages"))
        given = {"HTTP_LISTEN": address, "RETRY_INTERVAL": "2", **internet.settings}
        stack = contexts.enter_context(Stack(given, scale=dict.fromkeys(OPTIONAL, 1)))
        store_rules(stack.env)
        send_all(MAILS, stack.env)
        seen = Seen()

        def is_over() -> bool:
            take_results(stack.env, seen)
            read_rows(stack.env, seen)
            return len(seen.rows) >= len(MAILS) and sum(map(len, seen.results.values())) >= len(MAILS)

        wait_until(is_over, within=90, every=0.25)
        yield seen, internet, stack


@pytest.mark.parametrize("mail", MAILS, ids=lambda mail: f"{mail.way or 'seal'}: {mail.story}")
def test_mail_ends_as_it_should(world: World, mail: Expected) -> None:
    seen, internet, _ = world
    row, result = find_row(seen, mail), find_result(seen, mail)
    assert row is not None
    assert result is not None
    assert spell_attempts(row) == mail.attempts
    assert row["status"] == ("delivered" if mail.is_delivered else "failed")
    assert [attempt["attempt"] for attempt in result["results"]] == list(range(1, len(mail.attempts) + 1))
    assert not {"mime", "mime64", "key"} & set(result)
    ledger = internet.sealed if mail.strategy == "seal" else internet.delivered
    assert sum(1 for stored in ledger.mails() if stored.recipient == mail.recipient) == mail.copies


def test_nothing_else_happened(world: World) -> None:
    seen, internet, _ = world
    assert find_mistakes(MAILS, seen, internet) == []


def test_a_delivered_mail_tells_its_session(world: World) -> None:
    seen, _, _ = world
    delivered = find_result(seen, MAILS[0])
    assert delivered is not None
    attempt = delivered["results"][-1]
    assert attempt["to"] in ("127.0.1.1", "127.0.1.2")
    assert attempt["cipher"]["version"].startswith("TLS")
    assert attempt["certificate"]["verified"] is False
    assert attempt["certificate"]["result"] == "self-signed"
    assert attempt["sent"]["data"] > 0
    assert delivered["extracted"]["recipient"] == {"local": "ok+smtp", "domain": "good.example"}


NAMES = {
    *("http_requests_total", "http_request_duration_seconds_count", "smtp_incoming_total", "smtp_incoming_stored"),
    *("smtp_incoming_duration_seconds_count", "delivered_messages_total", "delivered_messages_total_size_bytes"),
    *("failed_messages_total", "bounce_replies_total"),
}
"""Those that dashboards made for other gateways ask for."""


def test_metrics_are_as_documented_and_what_alerts_and_dashboard_ask_for_is_there(world: World) -> None:
    _, _, stack = world
    page, known = read_page(), set[str]()
    different: dict[str, object] = {}
    for service in SERVICES | OPTIONAL:
        text = fetch(stack.env[metrics_name(service)])
        assert "_created" not in text
        shown = read_shown(text)
        known |= list_series(shown)
        ours = {
            name: one for name, one in shown.items() if name == "process_ready" or not name.startswith(("process_", "python_"))
        }
        told = {name: one for name, (one, services) in page.items() if service in services}
        missing = {
            name
            for name, one in told.items()
            if name not in ours or (one.kind, one.meaning) != (ours[name].kind, ours[name].meaning)
        }
        unlike = {name for name, one in ours.items() if name in told and one.labels and set(one.labels) != set(told[name].labels)}
        different |= {service: found} if (found := missing | unlike | (ours.keys() - told)) else {}
    assert not different
    broker = stack.env[metrics_name("rabbitmq")]
    known |= list_series(read_shown(fetch(broker))) | list_series(read_shown(fetch(broker, QUEUES)))
    asked = set().union(*map(find_names, [*read_alerts().values(), *read_expressions()]))
    assert asked - known == {"up", "ALERTS"}
    assert known >= NAMES
