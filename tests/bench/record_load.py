"""Publishes records as our own processes do, confirmed: the load of (g). Run as a process of its own.

    python -m tests.bench.record_load URL --results 100000 --domain g.example

For every 20 mails one message with the list of what was accepted, and for each mail, ``LAG`` mails later, its final result of about
1.2 KB: half of them were relayed from elsewhere at the first attempt, half came by our API; one in ten failed. ``--payloads`` names a
payload in the message store for each mail. ``--alone``: results only, of mail that applications published to ``outbox``.

Prints what ``tests.bench.publisher`` prints.
"""

import argparse
import json
import signal
import time
from typing import Any

import orjson
from pamqp import commands, frame, header

from shared.wire.bundle import MOST_RECORDS
from shared.wire.message import APP_ID
from tests.bench.amqp import AmqpClient, render_body
from tests.bench.publisher import publish

LAG = 5000
"""Mails between a mail's acceptance and its result: more than a batch of the recorder, so that no result meets its mail there."""
WINDOW = 2000
_CHANNEL = 1
_FOLDER = "v1/2026/11/23"
_BLANK = "#" * 12
"""Stands where the number of a mail goes, in ids too."""


def name_payload(domain: str, number: int) -> str:
    """The key of the payload of mail ``number``."""
    return f"{_FOLDER}/{_name_mail(domain, number)}"


def count_messages(results: int, *, is_alone: bool = False) -> int:
    """How many messages ``results`` come to."""
    return results if is_alone else results + -(-results // MOST_RECORDS)


class Records:
    """The messages of one run, by number."""

    def __init__(self, results: int, domain: str, *, has_payloads: bool = False, is_alone: bool = False) -> None:
        """``results``: a multiple of 20. ``is_alone``: nothing was accepted by an inbox."""
        self._is_alone = is_alone
        self._blocks = results // MOST_RECORDS
        self._lag = min(LAG // MOST_RECORDS, self._blocks)
        accepted = _render_mail(domain, has_payload=has_payloads)
        self._accepted = orjson.dumps(accepted).split(_BLANK.encode())
        told = {name: value for name, value in accepted.items() if name != "key"}
        self._delivered = orjson.dumps({**told, "results": [_render_attempt("message", 250)]}).split(_BLANK.encode())
        self._failed = orjson.dumps({**told, "results": [_render_attempt("rcptto", 550)]}).split(_BLANK.encode())

    def render(self, number: int) -> bytes:
        """All frames of message ``number``, from 1."""
        if self._is_alone:
            return self._render_result(number - 1)
        index, per = number - 1, MOST_RECORDS + 1
        if index < self._lag:
            return self._render_accepted(index)
        group, place = divmod(index - self._lag, per)
        if group < self._blocks - self._lag:
            if place == 0:
                return self._render_accepted(self._lag + group)
            return self._render_result(group * MOST_RECORDS + place - 1)
        rest = index - self._lag - (self._blocks - self._lag) * per
        return self._render_result((self._blocks - self._lag) * MOST_RECORDS + rest)

    def _render_accepted(self, block: int) -> bytes:
        mails = range(block * MOST_RECORDS, (block + 1) * MOST_RECORDS)
        body = b"[" + b",".join([_fill_in(self._accepted, mail) for mail in mails]) + b"]"
        return _render_publication("accepted", len(body)) + render_body(body)

    def _render_result(self, mail: int) -> bytes:
        event, template = ("failure", self._failed) if mail % 10 == 3 else ("success", self._delivered)
        body = _fill_in(template, mail)
        return _render_publication(event, len(body)) + render_body(body)


def _name_mail(domain: str, number: int | None) -> str:
    """As long as a UUID, and different in each run: ``domain`` is."""
    blank = _BLANK if number is None else f"{number:012}"
    return f"{domain[:23].replace('.', '-'):->23}-{blank}"


def _fill_in(template: list[bytes], mail: int) -> bytes:
    return f"{mail:012}".encode().join(template)


def _render_mail(domain: str, *, has_payload: bool) -> dict[str, Any]:
    """What an inbox publishes for the record, with the number left out."""
    ident = _name_mail(domain, None)
    mail: dict[str, Any] = {
        "id": ident,
        "transaction": ident,
        "recipients-total": 1,
        "channel": "smtp",
        "hostname": "in-1.bench.example",
        "seen": "2026-11-23 04:00:00",
        "received": "2026-11-23 04:00:00",
        "size": 5213,
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "envelope": "news@shop.example",
        "return-path": "news@shop.example",
        "recipient": f"customer-{_BLANK}@{domain}",
        "message-id": ident,
        "tags": ["newsletter", "autumn"],
        "connection": {"remote-ip": "192.0.2.77", "local-ip": "192.0.2.1", "secure": True, "helo": "app-3.shop.example"},
        "extracted": {
            "from": "news@shop.example",
            "to": [f"customer-{_BLANK}@{domain}"],
            "subject": "Your order has been shipped",
            "headers": {"message-id": f"<{_BLANK}.{domain}@shop.example>", "content-type": "text/html; charset=utf-8"},
        },
    }
    return mail | ({"key": f"{_FOLDER}/{ident}"} if has_payload else {})


def _render_attempt(state: str, code: int) -> dict[str, Any]:
    """One object of ``results``, as smtp-sender makes it."""
    is_taken = code == 250
    return {
        "state": state,
        "result": "accepted" if is_taken else "error",
        "attempt": 1,
        "time": "2026-11-23 04:00:01",
        "mta": "mx-in.mail.bench.example",
        "from": "192.0.2.1",
        "to": "198.51.100.7",
        "messages": 12,
        "sent": {"connection": 62_556, "data": 5213},
        "code": code,
        "status": "2.0.0" if is_taken else "5.1.1",
        "description": f"Ok: queued as {_BLANK}" if is_taken else f"<customer-{_BLANK}>: user unknown in virtual mailbox table",
        **({} if is_taken else {"class": "bad-mailbox"}),
        "cipher": {"name": "TLS_AES_256_GCM_SHA384", "bits": 256, "algbits": 256, "version": "TLSv1.3", "id": 4866},
        "strategy": "smtp",
    }


def _render_publication(event: str, body_size: int) -> bytes:
    """The method and header frames, as ``shared.amqp.publisher`` makes them."""
    properties = commands.Basic.Properties(
        content_type="application/json", delivery_mode=2, app_id=APP_ID, headers={"event": event}, message_id="1"
    )
    method = commands.Basic.Publish(exchange="mailwarren", routing_key="record", mandatory=True)
    content = header.ContentHeader(body_size=body_size, properties=properties)
    return frame.marshal(method, _CHANNEL) + frame.marshal(content, _CHANNEL)


def main() -> None:
    """Publish, then tell when."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.record_load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--results", type=int, required=True, help=f"a multiple of {MOST_RECORDS}")
    parser.add_argument("--domain", required=True)
    parser.add_argument("--payloads", action="store_true")
    parser.add_argument("--alone", action="store_true")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the bench, which then ends us
    records = Records(given.results, given.domain, has_payloads=given.payloads, is_alone=given.alone)
    messages = count_messages(given.results, is_alone=given.alone)
    with AmqpClient(given.url, "bench publishes records") as client:
        began, used = time.time(), time.process_time()
        refused = publish(client, records.render, messages, WINDOW)
        told = {"began": began, "ended": time.time(), "cpu": time.process_time() - used, "refused": refused}
        print(json.dumps(told))


if __name__ == "__main__":
    main()
