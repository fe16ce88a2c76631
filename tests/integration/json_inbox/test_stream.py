"""json-inbox: a stream of mail (NDJSON with ?partial=true), of any length."""

import gzip
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.json_inbox_process import LINES, MIME, Inbox, message
from tests.support.waiting import wait_until

STREAM = "/v1/messages?partial=true"


SETTINGS = {"HTTP_MAX_MESSAGES": "100", "HTTP_MAX_SIZE": "3000000"}


def line(recipient: str = "to@example.org", **properties: Any) -> bytes:
    return json.dumps(message(recipient, **properties)).encode() + b"\n"


def read(answer: httpx.Response) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The lines of an answer, and the sum at its end."""
    assert answer.headers["content-type"] == "application/x-ndjson"
    *results, total = [json.loads(text) for text in answer.text.splitlines()]
    return results, total


def peak(inbox: Inbox) -> int:
    """KiB of memory at most so far."""
    status = Path(f"/proc/{inbox.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0])


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_more_than_a_request_may_hold_is_taken_in_batches(inbox: Inbox, packed: bool) -> None:
    body = b"".join(line(f"to-{number}@example.org") for number in range(1, 251)) + b"\n\n"
    headers = {**LINES, **({"Content-Encoding": "gzip"} if packed else {})}
    answer = inbox.http.post(STREAM, content=gzip.compress(body) if packed else body, headers=headers)
    assert answer.status_code == 202
    results, total = read(answer)
    assert total == {"accepted": 250, "rejected": 0, "complete": True}
    assert [(one["line"], one["recipient"]) for one in results] == [(n, f"to-{n}@example.org") for n in range(1, 251)]
    ids = {one["id"] for one in results}
    assert {got.document["id"] for got in inbox.queues.take("inbox")} == ids
    assert {got.document["id"] for got in inbox.queues.take("records")} == ids


def test_every_line_has_its_result_in_order(inbox: Inbox) -> None:
    many = json.dumps({"recipients": [f"{number}@example.org" for number in range(60)], "mime": MIME}).encode() + b"\n"
    too_many = json.dumps({"recipients": ["a@example.org"] * 101, "mime": MIME}).encode() + b"\n"
    body = many + b"{nothing\n" + many + line("nobody") + too_many + b'{"a": 1, "a": 2}\n[]\n' + line("last@example.org").rstrip()
    results, total = read(inbox.http.post(STREAM, content=body, headers=LINES))
    assert total == {"accepted": 121, "rejected": 5, "complete": True}
    wrong = [(one["line"], one["status"], one.get("field")) for one in results if "status" in one]
    assert wrong == [(2, 422, None), (4, 422, "recipient"), (5, 422, "recipients"), (6, 422, None), (7, 422, None)]
    assert all(one["reason"] for one in results if "status" in one)
    assert [one["line"] for one in results] == sorted(one["line"] for one in results)
    assert len(inbox.queues.take("inbox")) == 121


def test_nothing_that_is_right_is_422(inbox: Inbox) -> None:
    answer = inbox.http.post(STREAM, content=line("nobody"), headers=LINES)
    assert answer.status_code == 422
    assert read(answer)[1] == {"accepted": 0, "rejected": 1, "complete": True}
    empty = inbox.http.post(STREAM, content=b"\n \n", headers=LINES)
    assert (empty.status_code, empty.headers["content-type"]) == (422, "application/problem+json")


@pytest.mark.parametrize(
    ("rest", "status"),
    [(b"x" * 4_000_000, 413), (b"[" + b" " * 3_500_000 + b"]\n", 413)],
    ids=["without-end", "too-long"],
)
def test_a_line_that_is_too_long_ends_the_stream_and_what_was_confirmed_stays(inbox: Inbox, rest: bytes, status: int) -> None:
    body = b"".join(line(f"to-{number}@example.org") for number in range(1, 151)) + rest
    answer = inbox.http.post(STREAM, content=gzip.compress(body), headers={**LINES, "Content-Encoding": "gzip"})
    assert answer.status_code == status
    results, total = read(answer)
    assert (total["accepted"], total["complete"], total["status"], total["line"]) == (100, False, status, 101)
    assert "http-max-size" in total["detail"]
    assert {got.document["id"] for got in inbox.queues.take("inbox")} == {one["id"] for one in results}


def test_a_cut_off_gzip_ends_the_stream_before_its_last_line(inbox: Inbox) -> None:
    body = gzip.compress(b"".join(line(f"to-{number}@example.org") for number in range(1, 121)))
    answer = inbox.http.post(STREAM, content=body[:-5], headers={**LINES, "Content-Encoding": "gzip"})
    assert answer.status_code == 400
    assert (read(answer)[1]["accepted"], read(answer)[1]["line"]) == (100, 101)
    assert len(inbox.queues.take("inbox")) == 100
    alone = inbox.http.post(STREAM, content=b"plain", headers={**LINES, "Content-Encoding": "gzip"})
    assert (alone.status_code, alone.headers["content-type"]) == (400, "application/problem+json")


def test_a_client_that_leaves_has_sent_what_was_confirmed_and_nothing_half(inbox: Inbox) -> None:
    body = b"".join(line(f"to-{number}@example.org") for number in range(1, 151))
    head = f"POST {STREAM} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: 99999999\r\n\r\n"
    with socket.create_connection((inbox.http.base_url.host, inbox.http.base_url.port or 80), timeout=20) as client:
        client.sendall(head.encode() + body + line()[:-10])
        wait_until(lambda: inbox.queues.count("inbox") == 100, within=20, what="the first batch to be confirmed")
    left = 'http_requests_total{code="499",operation="post_messages"}'
    wait_until(lambda: left in inbox.http.get("/metrics").text, what="the process to see that the client has left")
    assert len(inbox.queues.take("inbox")) == 100


def test_lines_that_come_while_the_client_is_still_writing_are_accepted(inbox: Inbox) -> None:
    """A client that reads nothing before it has written all must not block, nor have its first mails wait for the last ones."""
    go_on = threading.Event()

    def lines() -> Iterator[bytes]:
        for number in range(100):
            yield line(f"to-{number}@example.org")
        assert go_on.wait(20)
        yield line("last@example.org")

    answers: list[httpx.Response] = []
    writing = threading.Thread(target=lambda: answers.append(inbox.http.post(STREAM, content=lines(), headers=LINES)))
    writing.start()
    try:
        wait_until(lambda: inbox.queues.count("inbox") == 100, within=20, what="the first batch")
    finally:
        go_on.set()
        writing.join(20)
    assert read(answers[0])[1] == {"accepted": 101, "rejected": 0, "complete": True}


def test_the_broker_goes_away_in_the_middle(inbox: Inbox) -> None:
    async def unbind(channel: Any) -> None:
        await channel.queue_unbind("inbox", "mailwarren", "inbox")

    async def bind(channel: Any) -> None:
        await channel.queue_bind("inbox", "mailwarren", "inbox")

    def lines() -> Iterator[bytes]:
        for number in range(1, 101):
            yield line(f"to-{number}@example.org")
        wait_until(lambda: inbox.queues.count("inbox") == 100, within=20, what="the first batch")
        inbox.queues.run(unbind)
        for number in range(101, 301):
            yield line(f"to-{number}@example.org")

    try:
        answer = inbox.http.post(STREAM, content=lines(), headers=LINES)
    finally:
        inbox.queues.run(bind)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    results, total = read(answer)
    assert (total["accepted"], total["complete"], total["line"]) == (100, False, 101)
    assert [one["line"] for one in results] == list(range(1, 101))
    assert len(inbox.queues.take("inbox")) == 100


def test_a_long_stream_costs_no_more_memory_than_a_short_one(inbox: Inbox) -> None:
    """20,000 refused lines of 2 KB, and an answer of 2 MB: 40 MB pass, and next to nothing stays."""
    wrong = line("nobody", filler="x" * 2000)

    def lines(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield wrong * 100

    assert inbox.http.post(STREAM, content=lines(20), headers=LINES).status_code == 422
    before = peak(inbox)
    answer = inbox.http.post(STREAM, content=lines(200), headers=LINES)
    assert read(answer)[1] == {"accepted": 0, "rejected": 20_000, "complete": True}
    assert peak(inbox) - before < 10_000


def test_a_bomb_of_gzip_costs_no_memory(inbox: Inbox) -> None:
    before = peak(inbox)
    bomb = gzip.compress(b" " * 300_000_000)
    answer = inbox.http.post(STREAM, content=bomb, headers={**LINES, "Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["status"]) == (413, 413)
    assert peak(inbox) - before < 20_000
