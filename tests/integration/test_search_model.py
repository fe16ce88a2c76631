"""Searches against a plain filter over the same rows: random mails in all tables, random questions, short pages and shorter walks."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import psycopg
import pytest

from shared.storage.database import Database, DatabaseSettings
from shared.storage.search import find_page, parse_search
from shared.wire.times import render_time

START = 1_795_406_400
SECONDS = 40
"""Few, so that many mails share one and every bound hits some."""
RECIPIENTS = ("a@one.example", "B@one.example", "c@two.example", "d@three.example")
SENDERS = ("", "News@shop.example", "info@shop.example", "x@else.example")
CLASSES = (None, "quota", "policy", "bad-mailbox")


@dataclass(frozen=True, slots=True)
class Mail:
    """What a search may know of a recipient's mail."""

    id: str
    recipient: str
    sender: str
    status: str
    bounce_class: str | None
    moment: int
    """Of the last event."""
    archived: bool = False


@pytest.fixture
async def postgres(database: str) -> AsyncIterator[Database]:
    opened = Database(DatabaseSettings(db_uri=database))
    yield opened
    await opened.close()


def make_mail(dice: Random, ident: str, status: str, *, archived: bool = False, **given: Any) -> Mail:
    bounce_class = None if status in ("accepted", "delivered") else dice.choice(CLASSES)
    recipient, moment = dice.choice(RECIPIENTS), START + dice.randrange(SECONDS)
    values: dict[str, Any] = {"recipient": recipient, "sender": dice.choice(SENDERS), "moment": moment, "archived": archived}
    return Mail(id=ident, status=status, bounce_class=bounce_class, **(values | given))


def domain_of(address: str) -> str:
    return address.rpartition("@")[2]


def put_final(connection: psycopg.Connection[Any], mail: Mail, transaction: str, total: int) -> None:
    names = ["id", "transaction", "recipients_total", "message_id", "subject", "sender", "recipient", "status", "class",
             "destination", "results", "created_at", "updated_at", "accepted_at"]  # fmt: skip
    values: list[Any] = [mail.id, transaction, total, mail.id, "", mail.sender, mail.recipient, mail.status, mail.bounce_class,
                         domain_of(mail.recipient), "[]", mail.moment, mail.moment, START - 5]  # fmt: skip
    if mail.archived:
        names, values = [*names, "archived_at"], [*values, START + 100]
    table = "message_status_archive" if mail.archived else "message_status"
    query = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))})"  # noqa: S608
    connection.execute(query.encode(), values)


def put_submission(connection: psycopg.Connection[Any], dice: Random, number: int) -> list[Mail]:
    """A submission of one to three recipients, not all of them final."""
    accepted_at, sender, transaction = START + dice.randrange(SECONDS), dice.choice(SENDERS), f"t{number}"
    others = ("accepted", "deferred", "delivered", "failed")
    kinds = [dice.choice(others[:2]), *dice.choices(others, k=dice.randrange(3))]
    mails = []
    for position, kind in enumerate(kinds):
        moment = accepted_at if kind == "accepted" else accepted_at + dice.randrange(SECONDS)
        mails.append(make_mail(dice, f"{transaction}-{position}", kind, sender=sender, moment=moment))
    recipients = {mail.id: {"recipient": mail.recipient, "message_id": mail.id} for mail in mails}
    status = "deferred" if "deferred" in kinds else "accepted"
    connection.execute(
        """
        INSERT INTO messages (transaction, message_id, message_type, sender, recipients, recipients_total, subject, channel, status,
            return_path, ids, keepmime, next_attempt_at, created_at, updated_at)
        VALUES (%s, %s, '', %s, %s, %s, '', 'smtp', %s, '', %s, false, 0, %s, %s)
        """,
        [
            transaction,
            mails[0].id,
            sender,
            json.dumps(recipients),
            len(mails),
            status,
            list(recipients),
            accepted_at,
            START + 1000,
        ],
    )
    for mail in mails:
        if mail.status in ("delivered", "failed"):
            put_final(connection, mail, transaction, len(mails))
        elif mail.status == "deferred":
            put_attempts(connection, dice, mail, accepted_at)
    return mails


def put_attempts(connection: psycopg.Connection[Any], dice: Random, mail: Mail, accepted_at: int) -> None:
    """One to three; the last one is what a search knows of."""
    last = dice.randint(1, 3)
    for attempt in range(1, last + 1):
        is_last = attempt == last
        connection.execute(
            """
            INSERT INTO delivery_attempts (id, recipient, attempt, class, time, destination, next_attempt_at, report, created_at,
                updated_at) VALUES (%s, %s, %s, %s, 0, %s, %s, %s, %s, %s)
            """,
            [mail.id, mail.recipient, attempt, mail.bounce_class if is_last else "unknown", domain_of(mail.recipient),
             START + 900 if is_last else None, json.dumps({"attempt": attempt}), mail.moment if is_last else accepted_at,
             START + 1000],
        )  # fmt: skip


def fill(database: str, dice: Random) -> list[Mail]:
    """A few hundred mails, and what is known of them."""
    mails: list[Mail] = []
    with psycopg.connect(database) as connection:
        connection.execute(b"CREATE TABLE month PARTITION OF message_status_archive FOR VALUES FROM (0) TO (9999999999)")
        for number in range(120):
            for archived in (False, True):
                ident = f"{'old' if archived else 'new'}-{number}"
                mail = make_mail(dice, ident, dice.choice(("delivered", "failed")), archived=archived)
                put_final(connection, mail, ident, 1)
                mails.append(mail)
        for number in range(70):
            mails += put_submission(connection, dice, number)
    return mails


def ask(dice: Random) -> dict[str, str]:
    """A question with conditions as people combine them."""
    first, second = sorted(dice.sample(range(SECONDS + 10), 2))
    conditions = {
        "recipient": dice.choice([*RECIPIENTS, "*@one.example"]).upper().replace("EXAMPLE", "example"),
        "sender": dice.choice([*(sender or "<>" for sender in SENDERS), "*@shop.example"]),
        "status": dice.choice(("accepted", "deferred", "delivered", "failed")),
        "class": dice.choice(CLASSES[1:]),
        "destination": dice.choice(("one.example", "three.example")),
        "since": render_time(datetime.fromtimestamp(START + first, UTC)),
        "until": render_time(datetime.fromtimestamp(START + second, UTC)),
        "archived": dice.choice(("true", "true", "false")),
    }
    asked = {name: value for name, value in conditions.items() if dice.random() < (0.8 if name == "archived" else 0.3)}
    if asked.get("status") == "accepted":
        asked.pop("class", None)
    if "recipient" in asked:
        asked.pop("destination", None)
    return asked


def meets(mail: Mail, asked: dict[str, str]) -> bool:
    """The filter, as docs/looking-up.md tells it."""

    def is_party(address: str, wanted: str) -> bool:
        if wanted.startswith("*@"):
            return domain_of(address).lower() == wanted[2:].lower()
        return address.lower() == wanted.replace("<>", "").lower()

    moment = render_time(datetime.fromtimestamp(mail.moment, UTC))
    return (
        (not mail.archived or asked.get("archived") == "true")
        and ("recipient" not in asked or is_party(mail.recipient, asked["recipient"]))
        and ("sender" not in asked or is_party(mail.sender, asked["sender"]))
        and asked.get("status", mail.status) == mail.status
        and asked.get("class", mail.bounce_class) == mail.bounce_class
        and asked.get("destination", domain_of(mail.recipient)) == domain_of(mail.recipient)
        and asked.get("since", "") <= moment < asked.get("until", "9")
    )


async def find(postgres: Database, asked: dict[str, str], limit: int, most: int) -> list[tuple[str, str, str]]:
    """(updated, id, status) of all pages, as they come."""
    found: list[tuple[str, str, str]] = []
    cursor = ""
    while True:
        search = parse_search({**asked, "limit": str(limit), "cursor": cursor}, datetime.now(UTC))
        async with postgres.connection() as connection:
            page = await find_page(connection, search, most=most)
        assert len(page.messages) <= limit
        found += [(document["updated"], document["id"], document["status"]) for document in page.messages]
        if page.next is None:
            return found
        assert page.next != cursor
        cursor = page.next


def expect(mails: Sequence[Mail], asked: dict[str, str]) -> list[tuple[str, str, str]]:
    wanted = sorted((mail for mail in mails if meets(mail, asked)), key=lambda mail: (mail.moment, mail.id), reverse=True)
    return [(render_time(datetime.fromtimestamp(mail.moment, UTC)), mail.id, mail.status) for mail in wanted]


async def test_pages_have_what_a_plain_filter_finds_in_its_order(database: str, postgres: Database) -> None:
    dice = Random(4)
    mails = fill(database, dice)
    questions: list[dict[str, str]] = [{}, {"archived": "true"}, *(ask(dice) for _ in range(35))]
    # Every kind of mail alone, for exactly one second that has some.
    for status, archived in [(status, archived) for status in {mail.status for mail in mails} for archived in (False, True)]:
        moments = sorted({mail.moment for mail in mails if (mail.status, mail.archived) == (status, archived)})
        for moment in moments[len(moments) // 2 :][:1]:
            since, until = (render_time(datetime.fromtimestamp(moment + more, UTC)) for more in (0, 1))
            questions.append({"status": status, "since": since, "until": until, "archived": str(archived).lower()})
    some = 0
    for asked in questions:
        expected = expect(mails, asked)
        some += bool(expected)
        assert await find(postgres, asked, dice.choice((3, 10, 40)), dice.choice((4, 15, 60))) == expected, asked
    assert some > len(questions) / 3
