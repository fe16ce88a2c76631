"""smtp-inbox as a process: large mail goes to the message store as it comes, and the process stays small."""

import hashlib
import random
import resource
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.integration.smtp_inbox_process import (
    CONTENT,
    Client,
    Inbox,
    Link,
    content_of,
    run_inbox,
    take_messages,
    without_received,
)
from tests.integration.swift import ACCESS_KEY, SECRET_KEY, Swift
from tests.support.waiting import wait_until

CLIENTS = 32
LARGE = 20 * 1024 * 1024 - 1000
PATIENCE = 180
"""Seconds for 640 MB to go through, on a machine that has other things to do."""
HEADER = b"From: a@example.com\r\nX-MQ-Tag: large\r\nSubject: %d\r\n\r\n"
LINE = random.Random(1).randbytes(400).hex().encode() + b"\r\n..\r\n"
BODY = LINE * (LARGE // len(LINE)) + b"the last line\r\n"
STUFFED = BODY.replace(b"\r\n.", b"\r\n..")


def make_content(number: int) -> bytes:
    """A mail with lines that begin with dots."""
    return HEADER % number + BODY


def send_in_pieces(client: Client, stuffed: bytes) -> None:
    """The content as it goes over the wire, and its end."""
    client.socket.settimeout(PATIENCE)
    for start in range(0, len(stuffed), 100_000):
        client.send(stuffed[start : start + 100_000])
    client.send(b".\r\n")


def payloads(inbox: Inbox) -> list[Path]:
    """The files in the message store."""
    folder = Path(inbox.environment["STORAGE_URL"].removeprefix("dir://"))
    return [path for path in folder.rglob("*") if path.is_file() and ".tmp" not in path.parts]


def temporary_files(inbox: Inbox) -> list[Path]:
    """What is under way."""
    return list((Path(inbox.environment["STORAGE_URL"].removeprefix("dir://")) / ".tmp").iterdir())


def test_many_large_mails_at_once_stay_out_of_memory(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox:
        idle = inbox.peak_memory()
        clients = [inbox.hello().begin() for _ in range(CLIENTS)]
        turn = threading.Barrier(CLIENTS)

        def send(number: int) -> str:
            with clients[number] as client:
                turn.wait(PATIENCE)
                send_in_pieces(client, HEADER % number + STUFFED)
                return client.reply()[:9]

        with ThreadPoolExecutor(CLIENTS) as pool:
            assert list(pool.map(send, range(CLIENTS))) == ["250-2.0.0"] * CLIENTS
        assert inbox.peak_memory() - idle < 100e6
        assert temporary_files(inbox) == []
        stored = {path.name: path for path in payloads(inbox)}
        documents = [document for document, _ in take_messages(vhost, "inbox")]
        assert len(documents) == len(stored) == CLIENTS
        for document in documents:
            content = stored[document["key"].rpartition("/")[2]].read_bytes()
            number = int(document["extracted"]["subject"])
            assert without_received(content) == make_content(number).replace(b"X-MQ-Tag: large\r\n", b"")
            assert (document["size"], document["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
            assert document["tags"] == ["large"]


def test_the_headers_of_a_large_mail_are_looked_at_like_those_of_a_small_one(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox, inbox.hello() as client:
        for header, reply in (
            (b"Received: x\r\n" * 100, "554 5.4.6"),
            (b"X-MQ-MaxAttempts: three\r\n", "550 5.5.2 X-MQ-MaxAttempts"),
            (b"X: " + b"x" * 1_100_000 + b"\r\n", "552 5.3.4 The header section is too large"),
        ):
            client.begin()
            send_in_pieces(client, header + b"\r\n" + b"x" * 2_000_000 + b"\r\n")
            assert client.reply().startswith(reply)
        client.begin()
        send_in_pieces(client, b"no header\r\nX-MQ-Tag: x\r\n" + b"text\r\n" * 300_000)
        assert client.reply().startswith("250-2.0.0")
        wait_until(lambda: temporary_files(inbox) == [])
        (stored,) = payloads(inbox)
        assert without_received(stored.read_bytes()) == b"no header\r\n" + b"text\r\n" * 300_000


def test_a_client_that_leaves_or_breaks_a_rule_leaves_nothing(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, INBOUND_SMTP_MAX_SIZE="3000000") as inbox:
        for end, reply in ((b"x" * 3_000_000, "552 5.3.4"), (b"bare\nnewline", "550 5.5.2"), (b"\0", "550 5.5.2")):
            with inbox.hello().begin() as client:
                client.send(CONTENT + b"x" * 2_000_000)
                wait_until(lambda: len(temporary_files(inbox)) == 1)
                client.send(end + b"\r\n.\r\n")
                assert client.reply().startswith(reply)
                wait_until(lambda: temporary_files(inbox) == [])
        with inbox.hello().begin() as client:
            client.send(CONTENT + b"x" * 2_000_000)
            wait_until(lambda: len(temporary_files(inbox)) == 1)
        wait_until(lambda: temporary_files(inbox) == [])
        assert payloads(inbox) == []


def test_the_disk_is_shared_fairly_too(vhost: str, tmp_path: Path) -> None:
    settings = {"INBOUND_SMTP_MAX_SPOOL": "3000000"}
    with run_inbox(tmp_path, vhost, **settings) as inbox, inbox.hello() as first, inbox.hello() as second:
        first.begin().send(CONTENT + b"x" * 2_000_000)
        wait_until(lambda: len(temporary_files(inbox)) == 1)
        second.begin().send(CONTENT + b"x" * 2_000_000 + b"\r\n.\r\n")
        assert second.reply().startswith("452 4.3.1")
        first.send(b"\r\n.\r\n")
        assert first.reply().startswith("250-2.0.0")
        second.begin().send(CONTENT + b"x" * 2_000_000 + b"\r\n.\r\n")
        assert second.reply().startswith("250-2.0.0")


def test_a_full_disk_is_a_reason_to_come_again(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox, inbox.hello() as client:
        # To the process the disk is full at 1.5 MB of a file.
        psutil.Process(inbox.process.pid).rlimit(psutil.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
        client.begin().send(CONTENT + b"x" * 3_000_000 + b"\r\n.\r\n")
        assert client.reply() == "452 4.3.1 No room for this mail now, try again later"
        wait_until(lambda: temporary_files(inbox) == [])
        psutil.Process(inbox.process.pid).rlimit(psutil.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        send_in_pieces(client.begin(), CONTENT + b"x" * 3_000_000 + b"\r\n")
        assert client.reply().startswith("250-2.0.0")
        assert len(payloads(inbox)) == 1


def s3(swift: Swift, spool: Path) -> dict[str, str]:
    """The settings of an inbox with a bucket."""
    return {
        "STORAGE_URL": "s3://payloads",
        "S3_HOSTNAME": swift.address,
        "S3_ACCESS_KEY": ACCESS_KEY,
        "S3_SECRET_KEY": SECRET_KEY,
        "S3_SECURE": "false",
        "STORAGE_SPOOL": str(spool),
    }


async def test_large_mail_goes_to_a_bucket(vhost: str, tmp_path: Path, swift: Swift) -> None:
    from shared.storage.s3 import S3Store

    with run_inbox(tmp_path, vhost, **s3(swift, tmp_path)) as inbox:
        idle = inbox.peak_memory()
        with inbox.hello().begin() as client:
            send_in_pieces(client, HEADER % 1 + STUFFED)
            assert client.reply().startswith("250-2.0.0")
        assert inbox.peak_memory() - idle < 40e6  # the client for S3 is 15 MB
        ((document, _),) = take_messages(vhost, "inbox")
    store = S3Store(swift.bucket("payloads"))
    content = await store.fetch(document["key"])
    await store.close()
    assert without_received(content) == make_content(1).replace(b"X-MQ-Tag: large\r\n", b"")


@pytest.mark.parametrize("size", [200_000, 2_000_000], ids=["small", "large"])
def test_a_store_that_takes_too_long_is_a_reason_to_come_again(vhost: str, tmp_path: Path, swift: Swift, size: int) -> None:
    with run_inbox(tmp_path, vhost, DATA_PROCESSING_TIMEOUT="1", **s3(swift, tmp_path)) as inbox, inbox.hello() as client:
        swift.proxy.send_signal(signal.SIGSTOP)
        try:
            client.begin().send(CONTENT + b"x" * size + b"\r\n.\r\n")
            assert client.reply() == "451 4.4.5 Taking this mail took too long, try again later"
            assert take_messages(vhost, "inbox") == []
        finally:
            swift.proxy.send_signal(signal.SIGCONT)
        wait_until(lambda: swift.proxy.status() != psutil.STATUS_STOPPED)
        client.begin().send(CONTENT + b"x" * size + b"\r\n.\r\n")
        assert client.reply().startswith("250-2.0.0")
        assert len(take_messages(vhost, "inbox")) == 1


def test_a_broker_that_takes_long_is_waited_for_when_all_is_stored(vhost: str, tmp_path: Path) -> None:
    with Link(vhost) as link, run_inbox(tmp_path, link.amqp, DATA_PROCESSING_TIMEOUT="1") as inbox, inbox.hello() as client:
        client.begin()
        link.freeze()
        client.send(CONTENT + b"x" * 2_000_000 + b"\r\n.\r\n")
        wait_until(lambda: inbox.metric("smtp_incoming_total") == 1)
        client.socket.settimeout(2)
        with pytest.raises(TimeoutError):
            client.reply()
        client.socket.settimeout(15)
        link.thaw()
        assert client.reply().startswith("250-2.0.0")
    ((document, _),) = take_messages(vhost, "inbox")
    assert "key" in document
    assert not {"mime", "mime64"} & set(document)
    with pytest.raises(KeyError):
        content_of(document)
