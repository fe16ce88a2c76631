"""smtp-inbox as a process: clients that talk before they are greeted."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.integration.smtp_inbox_process import TIMEOUT, Inbox, run_inbox
from tests.support.waiting import wait_until

FOREIGN = {"SMTP_RANGE": "192.0.2.0/24"}
"""The test's own address may not relay."""


@contextmanager
def frozen(inbox: Inbox) -> Iterator[None]:
    """The process does nothing: what a client sends meanwhile is there before any greeting."""
    os.kill(inbox.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(inbox.process.pid, signal.SIGCONT)


def test_what_is_there_before_the_greeting_is_refused(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox:
        with frozen(inbox):
            early, browser, patient = (inbox.connect() for _ in range(3))
            early.send(b"EHLO client.example\r\nMAIL FROM:<a@example.com>\r\n")
            browser.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with early, browser, patient:
            assert early.reply() == "554 5.5.0 You talk before you are greeted"
            assert early.reply() == ""
            assert browser.reply() == ""
            patient.greet()
        assert "talk before" in inbox.log()
        wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 0)


def test_a_delay_is_for_those_who_may_not_relay(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, INBOUND_SMTP_GREETING_DELAY="60") as inbox, inbox.connect() as client:
        began = monotonic()
        client.greet()
        assert monotonic() - began < TIMEOUT


def test_who_talks_during_the_delay_is_refused_at_once(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, INBOUND_SMTP_GREETING_DELAY="60", **FOREIGN) as inbox:
        with inbox.connect() as client:
            wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 1)
            client.send(b"EHLO client.example\r\n")
            assert client.reply() == "554 5.5.0 You talk before you are greeted"
            assert client.reply() == ""
        # A process that stops does not wait for the delay.
        with inbox.connect() as client:
            wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 1)
            assert inbox.stop() == 0
            assert client.reply().startswith("421 4.3.2 ")


def test_who_waits_is_greeted_after_the_delay(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, INBOUND_SMTP_GREETING_DELAY="1", **FOREIGN) as inbox:
        began = monotonic()
        with inbox.hello() as client:
            assert monotonic() - began >= 1
            assert client.ask("NOOP") == "250 2.0.0 Ok"


@pytest.mark.parametrize("delay", ["61", "-1"])
def test_a_delay_that_clients_would_not_wait_for_is_no_setting(vhost: str, tmp_path: Path, delay: str) -> None:
    settings = {"RABBITMQ_ADDRESS": vhost, "STORAGE_URL": f"dir://{tmp_path}", "INBOUND_SMTP_GREETING_DELAY": delay}
    inbox = Inbox(settings, tmp_path / "log")
    assert inbox.process.wait(30) != 0
    assert "inbound-smtp-greeting-delay" in inbox.log()
