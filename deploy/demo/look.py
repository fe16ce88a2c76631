"""Looks at what became of the mails: in the queues ``success`` and ``failures``, in Postgres, at the mail hosts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pika
import psycopg
from psycopg.rows import dict_row

from deploy.demo.internet import Internet
from deploy.demo.mails import Expected

_ROWS = """
    SELECT recipient, delivery_strategy, status, state, code, destination, results FROM message_status ORDER BY created_at, id
"""


@dataclass(slots=True)
class Seen:
    """What was found so far."""

    results: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"success": [], "failures": []})
    """Queue → the results taken from it."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Of ``message_status``."""


def take_results(env: Mapping[str, str], seen: Seen) -> None:
    """Take what lies in the queues ``success`` and ``failures``."""
    with pika.BlockingConnection(pika.URLParameters(env["RABBITMQ_ADDRESS"])) as connection:
        channel = connection.channel()
        for queue, results in seen.results.items():
            while (got := channel.basic_get(queue))[0] is not None:
                results.append(orjson.loads(got[2]))
                channel.basic_ack(got[0].delivery_tag)


def read_rows(env: Mapping[str, str], seen: Seen) -> None:
    """Read the final rows."""
    with psycopg.connect(env["DB_URI"], row_factory=dict_row) as connection:
        seen.rows = connection.execute(_ROWS).fetchall()


def find_row(seen: Seen, mail: Expected) -> dict[str, Any] | None:
    """The row of one mail."""
    for row in seen.rows:
        if (row["recipient"], row["delivery_strategy"]) == (mail.recipient, mail.strategy):
            return row
    return None


def find_result(seen: Seen, mail: Expected) -> dict[str, Any] | None:
    """The result of one mail, from the queue where it belongs."""
    for result in seen.results["success" if mail.is_delivered else "failures"]:
        if result["recipient"] == mail.recipient and result["results"][-1].get("strategy") == mail.strategy:
            return result
    return None


def spell_attempts(row: Mapping[str, Any]) -> tuple[str, ...]:
    """``state/result/code`` of every attempt."""
    return tuple(f"{one['state']}/{one['result']}/{one.get('code')}" for one in row["results"])


def find_mistakes(mails: Sequence[Expected], seen: Seen, internet: Internet) -> list[str]:
    """Everything that did not end as it should, a sentence each."""
    mistakes = []
    for mail in mails:
        name = f"{mail.recipient} ({mail.story})"
        row, result = find_row(seen, mail), find_result(seen, mail)
        if row is None:
            mistakes.append(f"{name}: no row in message_status")
        elif spell_attempts(row) != mail.attempts:
            mistakes.append(f"{name}: attempts {spell_attempts(row)}, expected {mail.attempts}")
        if result is None:
            mistakes.append(f"{name}: no result on the queue {'success' if mail.is_delivered else 'failures'}")
        ledger = internet.sealed if mail.strategy == "seal" else internet.delivered
        copies = sum(1 for stored in ledger.mails() if stored.recipient == mail.recipient)
        if copies != mail.copies:
            mistakes.append(f"{name}: {copies} copies arrived, expected {mail.copies}")
    expected = len(mails)
    found = sum(len(results) for results in seen.results.values())
    if found != expected or len(seen.rows) != expected:
        mistakes.append(f"{found} results and {len(seen.rows)} rows for {expected} mails")
    return mistakes
