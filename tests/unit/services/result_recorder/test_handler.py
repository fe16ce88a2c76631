"""What rows a record becomes."""

import gzip
from typing import Any

import orjson
import pytest

from services.result_recorder.handler import MAX_ADDRESS, BadRecord, Record, clean, clean_json, parse_frame
from shared.amqp.frame import Frame
from shared.trouble import BadMessage
from tests.support.record_frames import SEEN_UNIX, accepted, failure, make_frame, make_mail, make_result, refused, retry, success

NOW = SEEN_UNIX + 3600


def parse(frame: Frame, **settings: str) -> Record:
    """The one record of a message. Raises BadRecord."""
    records, wrong = parse_frame(frame, now=NOW, **settings)
    if wrong:
        raise BadRecord(wrong)
    (record,) = records
    return record


def test_accepted_becomes_a_submission() -> None:
    mail = make_mail(strategy="seal", recipients_total=3)
    mail["key"] = f"v1/2026/11/23/{mail['transaction']}"
    record = parse(accepted(mail))
    assert record.attempts == ()
    assert record.status is None
    row = record.submission
    assert row is not None
    assert row._asdict() | {"recipients": orjson.loads(row.recipients), "ids": orjson.loads(row.ids)} == {
        "transaction": mail["transaction"],
        "message_id": mail["extracted"]["headers"]["message-id"],
        "message_type": "mail",
        "sender": "alice@example.org",
        "recipients": {mail["id"]: {"recipient": "bob@example.net", "message_id": mail["extracted"]["headers"]["message-id"]}},
        "recipients_total": 3,
        "subject": "Hello",
        "channel": "smtp",
        "status": "accepted",
        "return_path": "alice@example.org",
        "datafile": mail["key"],
        "strategy": "seal",
        "ids": [mail["id"], mail["extracted"]["headers"]["message-id"]],
        "keepmime": "f",
        "next_attempt_at": SEEN_UNIX,
    }


def test_retry_becomes_its_attempts_and_only_the_newest_is_due() -> None:
    mail = make_mail("Bob@EXAMPLE.net")
    record = parse(retry(mail, refused(1), refused(2, **{"class": "greylisted"})))
    assert [row.attempt for row in record.attempts] == [1, 2]
    assert [row.next_attempt_at for row in record.attempts] == [None, SEEN_UNIX + 3600]
    newest = record.attempts[1]
    assert (newest.id, newest.recipient, newest.destination) == (mail["id"], "Bob@EXAMPLE.net", "example.net")
    assert (newest.state, newest.result, newest.code, newest.status) == ("rcptto", "error", 451, "4.7.1")
    assert (newest.description, newest.bounce_class, newest.mta) == ("greylisted", "greylisted", "mx.example.net")
    assert (newest.local_ip, newest.remote_ip, newest.time) == ("192.0.2.1", "192.0.2.2", SEEN_UNIX + 120)
    assert orjson.loads(newest.report)["status"] == "4.7.1"
    assert record.submission is not None
    assert record.submission.status == "deferred"


def test_mail_handed_to_the_next_strategy_is_due_at_once() -> None:
    mail = make_mail(outbound=[], results=[refused(1)])
    record = parse(make_frame(mail, "retry"))
    assert record.attempts[0].next_attempt_at == SEEN_UNIX + 60


@pytest.mark.parametrize(("render", "status"), [(success, "delivered"), (failure, "failed")])
def test_final_becomes_a_status_with_every_attempt(render: Any, status: str) -> None:
    last = make_result(2) if status == "delivered" else refused(2, code=550, **{"class": "bad-mailbox"})
    record = parse(render(make_mail(), refused(1), last))
    row = record.status
    assert row is not None
    assert (row.status, row.state, row.code, row.delivery_strategy) == (status, last["state"], last["code"], "smtp")
    assert row.bounce_class == last.get("class")
    assert orjson.loads(row.results) == [refused(1), last]
    assert record.submission is None
    assert record.attempts == ()


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({}, "accepted"),
        ({"results": [make_result()]}, "success"),
        ({"results": [refused()], "nextattempt": {"time": "2026-11-23 04:11:00"}}, "retry"),
        ({"results": [refused()], "nextattempt": {"time": "2026-11-23 04:01:00"}}, "failure"),
        ({"results": [refused()]}, "failure"),
    ],
)
@pytest.mark.parametrize("given", [None, "no event of ours"])
def test_without_a_known_event_the_content_tells(changes: dict[str, Any], event: str, given: str | None) -> None:
    mail = make_mail() | changes
    assert parse(make_frame(mail, given)) == parse(make_frame(mail, event))


def test_a_failure_that_may_have_been_handed_on_is_not_guessed() -> None:
    with pytest.raises(BadRecord, match="header event is missing"):
        parse(make_frame(make_mail(results=[refused()], outbound=[]), None))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not json", "not JSON"),
        (b"[]", "an empty list"),
        (b"7", "expected an object or a list of objects"),
        (b"[7]", "record 1 of 1: it is a JSON int, expected an object"),
        (b"{}", "id: None: expected a text"),
        (b'{"x": ' + b"[" * 300 + b"]" * 300 + b"}", "nested deeper than 100"),
        (orjson.dumps(make_mail(id="x" * 256)), "id: 'xxx"),
        (orjson.dumps(make_mail(id="a\x00b")), "id: 'a"),
        (orjson.dumps(make_mail(transaction=7)), "transaction: 7: expected a text"),
        (orjson.dumps(make_mail(results={"state": "message"})), "results: expected a list of objects"),
        (orjson.dumps(make_mail(results=["x"])), "results: expected a list of objects"),
    ],
)
def test_what_cannot_be_recorded_says_why(body: bytes, reason: str) -> None:
    with pytest.raises(BadMessage, match=reason):
        parse(make_frame(body, None))


def test_a_retry_without_an_attempt_is_refused() -> None:
    with pytest.raises(BadRecord, match="a retry without an attempt"):
        parse(make_frame(make_mail(), "retry"))


def test_records_of_strangers_are_refused() -> None:
    with pytest.raises(BadRecord, match="app-id"):
        parse(make_frame(make_mail(), "accepted", is_ours=False))


def test_a_list_holds_records_and_a_bad_one_harms_no_other() -> None:
    first, second = make_mail(), make_mail()
    body = orjson.dumps([first, {"id": 7}, second, []])
    records, wrong = parse_frame(make_frame(body, "accepted"), now=NOW)
    assert records == [parse(accepted(first)), parse(accepted(second))]
    assert wrong.startswith("record 2 of 4: id: 7: expected a text")
    assert parse_frame(make_frame(orjson.dumps([first]), "accepted"), now=NOW) == ([parse(accepted(first))], "")


def test_gzip_is_read() -> None:
    mail = make_mail()
    packed = make_frame(gzip.compress(orjson.dumps(mail)), "accepted", encoding="gzip")
    assert parse(packed) == parse(accepted(mail))


def test_wrong_types_are_left_out_not_fatal() -> None:
    mail = make_mail(
        recipient=17, envelope=["x"], extracted={"subject": 3, "headers": "x"}, seen="yesterday", channel=None,
        recipients_total="two", nextattempt="soon",
        results=[{"state": 1, "result": None, "code": "250", "attempt": "one", "time": 5, "description": {}}],
    )  # fmt: skip
    record = parse(make_frame(mail, "retry"))
    attempt = record.attempts[0]
    assert (attempt.attempt, attempt.state, attempt.code, attempt.time) == (1, None, None, NOW)
    assert record.submission is not None
    assert (record.submission.sender, record.submission.subject, record.submission.recipients_total) == ("", "", 1)


def test_attempts_without_numbers_are_numbered_by_their_place() -> None:
    results = [{"state": "connect"}, {"state": "message", "attempt": 2}, {"state": "data", "attempt": True}]
    record = parse(make_frame(make_mail(results=results), "failure"))
    assert record.status is not None
    assert [(r["attempt"], r["state"]) for r in orjson.loads(record.status.results)] == [
        (1, "connect"), (2, "message"), (3, "data"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("hostile", "kept"),
    [
        ("a\x00b", "ab"),
        ("a\r\nb\tc", "a  b c"),
        ("a\x1b[31mb\x7f\x85", "a[31mb"),
        ("\ud800x\udfff", "x"),
        ("naïve ☕ 👩‍🚀\u2028", "naïve ☕ 👩‍🚀\u2028"),
        ("x" * 2000, "x" * 1024),
    ],
)
def test_text_is_cleaned(hostile: str, kept: str) -> None:
    assert clean(hostile) == kept


def test_json_is_cleaned_all_the_way_down() -> None:
    assert clean_json([{"a\x00": ["x\x00y\x1b", {"b": "\ud800z"}], "n": 2**70, "f": 1.5, "t": True}]) == (
        '[{"a":["xy",{"b":"z"}],"n":"1180591620717411303424","f":1.5,"t":true}]'
    )
    assert clean_json({"d": "tab\tstays escaped"}) == '{"d":"tab\\tstays escaped"}'


def test_surrogates_and_wrong_bytes_in_the_body_do_not_cost_the_record() -> None:
    mail = orjson.dumps(make_mail(results=[make_result(description="HERE")]))
    for hostile in (b"\\ud800", b"\xff\xfe", b"\\u0000", b"\x01"):
        record = parse(make_frame(mail.replace(b"HERE", hostile), "success"))
        assert record.status is not None
        assert record.status.status == "delivered"
        assert "\\u00" not in record.status.results
        record.status.results.encode()


@pytest.mark.parametrize(
    ("key", "believed"),
    [
        ("v1/2026/11/23/{transaction}", True),
        ("v1/2026/11/23/{id}", True),
        ("v1/2026/11/23/{transaction}/..", False),
        ("v1/2026/11/23/7cd0b1a8-0000-4000-8000-000000000000", False),
        ("clients/mail-1", True),
        ("elsewhere/mail-1", False),
        ("clients/a\x00b", False),
        (7, False),
    ],
)
def test_only_a_key_of_this_mail_or_with_the_clients_prefix_is_believed(key: Any, believed: bool) -> None:
    mail = make_mail()
    mail["key"] = key.format(**mail) if isinstance(key, str) else key
    record = parse(retry(mail, refused()), client_prefix="clients/")
    assert record.submission is not None
    assert record.submission.datafile == (mail["key"] if believed else None)


def test_without_a_prefix_no_key_of_a_client_is_believed() -> None:
    record = parse(retry(make_mail(key="clients/mail-1"), refused()))
    assert record.submission is not None
    assert record.submission.datafile is None


def test_a_final_record_that_alone_knows_the_key_makes_a_submission() -> None:
    document = make_mail(channel="amqp", key="clients/1", results=[make_result()])
    record = parse(make_frame(document, "success"), client_prefix="clients/")
    assert record.submission is not None
    assert record.submission.datafile == "clients/1"


def test_keepmime_is_remembered_and_deletes_nothing() -> None:
    mail = make_mail(keepmime=True)
    mail["key"] = f"v1/2026/11/23/{mail['transaction']}"
    record = parse(success(mail))
    assert record.kept == mail["key"]
    assert record.submission is None


@pytest.mark.parametrize(
    ("given", "header", "known_as"),
    [
        ("client-7", "<a@b>", "client-7"),
        (None, "<a@b>", "<a@b>"),
        ("{id}", " <a@b> ", "<a@b>"),
        ("{id}", None, "{id}"),
        (None, ["<first@b>", "<second@b>"], "<first@b>"),
        (None, "x" * 500, "x" * 255),
    ],
)
def test_message_id(given: str | None, header: Any, known_as: str) -> None:
    mail = make_mail(extracted={"headers": {} if header is None else {"message-id": header}})
    if given:
        mail["message-id"] = given.format(**mail)
    record = parse(success(mail))
    assert record.status is not None
    assert record.status.message_id == known_as.format(**mail)


def test_a_report_is_told_from_a_mail() -> None:
    mail = make_mail(extracted={"headers": {"content-type": "multipart/REPORT; report-type=delivery-status"}}, envelope="<>")
    record = parse(accepted(mail))
    assert record.submission is not None
    assert (record.submission.message_type, record.submission.sender) == ("report", "")


def test_addresses_are_cut_to_what_an_index_takes() -> None:
    """The failure of a mail with an impossible recipient is recorded, too."""
    long = "\U0001f600" * 1000
    record = parse(make_frame(make_mail(recipient=f"{long}@{long}", envelope=long, results=[refused()]), "failure"))
    assert record.status is not None
    assert [len(text) for text in (record.status.recipient, record.status.sender)] == [MAX_ADDRESS, MAX_ADDRESS]
    assert len(record.status.recipient.encode()) <= 2048
    assert len(record.status.destination.encode()) <= 2048
