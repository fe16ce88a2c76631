"""smtp-inbox as a process: what it holds and how long it waits, whatever a client does."""

from pathlib import Path

from tests.integration.smtp_inbox_process import CONTENT, content_of, run_inbox, take_messages, without_received
from tests.support.waiting import wait_until


def test_an_idle_process_is_small_and_a_mail_of_20_mb_adds_less_than_100_mb(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox:
        idle = inbox.peak_memory()
        assert idle < 90e6
        with inbox.hello().begin() as client:
            for _ in range(19):
                client.send((b"x" * 1022 + b"\r\n") * 1024)
            client.send(b".\r\n")
            assert client.reply().startswith("250-2.0.0")
        assert inbox.peak_memory() - idle < 100e6


def test_empty_lines_and_a_line_without_an_end_stay_bounded(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, INBOUND_SMTP_MAX_SIZE="10000000") as inbox:
        idle = inbox.peak_memory()
        with inbox.hello().begin() as client:
            client.send(b"\r\n" * 4_600_000 + b".\r\n")
            assert client.reply().startswith("250-2.0.0")
            client.begin().send(b"x" * 9_200_000 + b"\r\n.\r\n")
            assert client.reply().startswith("250-2.0.0")
            client.begin()
            for _ in range(60):
                client.send(b"x" * 1_000_000)
            client.send(b"\r\n.\r\n")
            assert client.reply().startswith("552 5.3.4")
        with inbox.hello() as client:
            for _ in range(60):
                client.send(b"x" * 1_000_000)
            client.send(b"\r\n")
            assert client.reply().startswith("500 5.5.2")
            assert client.ask("NOOP") == "250 2.0.0 Ok"
        assert inbox.peak_memory() - idle < 60e6


def test_one_client_holds_no_more_than_twice_the_size(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, INBOUND_SMTP_MAX_SIZE="1000000") as inbox:
        clients = [inbox.hello().begin() for _ in range(3)]
        for client in clients:
            client.send(b"x" * 900_000)
        # One after the other: each has been read to here before the next one ends.
        replies = []
        for client in reversed(clients):
            client.send(b"\r\n.\r\n")
            replies.append(client.reply()[:9])
        assert sorted(replies) == ["250-2.0.0", "250-2.0.0", "452 4.3.1"]
        clients[0].begin().send(CONTENT + b".\r\n")
        assert clients[0].reply().startswith("250-2.0.0")
        for client in clients:
            client.socket.close()


def test_limits_of_connections_recipients_and_time(vhost: str, tmp_path: Path) -> None:
    limits = {
        "INBOUND_SMTP_MAX_CONNECTIONS_PER_ADDRESS": "3",
        "INBOUND_SMTP_MAX_RECIPIENTS": "2",
        "INBOUND_SMTP_COMMAND_TIMEOUT": "1",
        "INBOUND_SMTP_IDLE_TIMEOUT": "1",
    }
    with run_inbox(tmp_path, vhost, **limits) as inbox:
        three = [inbox.connect() for _ in range(3)]
        with inbox.connect() as fourth:
            assert fourth.reply().startswith("421 4.7.0")
            assert fourth.reply() == ""
        three[0].greet().begin()
        three[1].greet()
        assert three[1].ask("MAIL FROM:<>")[:3] == "250"
        replies = [three[1].ask(f"RCPT TO:<{name}@example.org>")[:9] for name in "bcdb"]
        assert replies == ["250 2.1.5", "250 2.1.5", "452 4.5.3", "250 2.1.5"]
        three[2].greet().send(b"NOO")
        for client in three:
            assert client.reply().startswith("421 4.4.2")
            assert client.reply() == ""
            client.socket.close()
        wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 0)
        inbox.hello().socket.close()


def test_normalize(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, INBOUND_SMTP_BARE_NEWLINES="normalize") as inbox:
        with inbox.hello().begin() as client:
            client.send(b"Subject: x\n\none\rtwo\n.\nthree\r\n.\r\n")
            assert client.reply().startswith("250-2.0.0")
        ((document, _),) = take_messages(vhost, "inbox")
    assert without_received(content_of(document)) == b"Subject: x\r\n\r\none\r\ntwo\r\n.\r\nthree\r\n"


def test_a_client_outside_of_the_range_may_not_relay(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, SMTP_RANGE="192.0.2.0/24") as inbox:
        with inbox.hello() as client:
            assert client.ask("MAIL FROM:<a@example.com>")[:3] == "250"
            for recipient in ("b@example.org", '"b@example.org"@mx.example', "b%example.org@mx.example", "b@[127.0.0.1]"):
                assert client.ask(f"RCPT TO:<{recipient}>").startswith("550 5.7.1")
            assert client.ask("DATA").startswith("554 5.5.1")
        assert take_messages(vhost, "inbox") == []
