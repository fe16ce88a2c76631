"""smtp-inbox as a process: what it holds and how long it waits, whatever a client does."""

from pathlib import Path

from tests.integration.smtp_inbox_process import CONTENT, content_of, run_inbox, take_messages, without_received
from tests.support.waiting import wait_until


def test_an_idle_process_is_small_and_a_mail_of_20_mb_adds_less_than_20_mb(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox:
        idle = inbox.peak_memory()
        assert idle < 90e6
        with inbox.hello().begin() as client:
            client.send(CONTENT)
            for _ in range(19):
                client.send((b"x" * 1022 + b"\r\n") * 1024)
            client.send(b".\r\n")
            assert client.reply().startswith("250-2.0.0")
        assert inbox.peak_memory() - idle < 20e6


def test_empty_lines_and_a_line_without_an_end_stay_bounded(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, INBOUND_SMTP_MAX_SIZE="10000000") as inbox:
        idle = inbox.peak_memory()
        with inbox.hello().begin() as client:
            client.send(b"\r\n" * 4_600_000 + b".\r\n")
            assert client.reply().startswith("250-2.0.0")
            client.begin().send(CONTENT + b"x" * 9_200_000 + b"\r\n.\r\n")
            assert client.reply().startswith("250-2.0.0")
            # All of it in the header section, which nobody's mail has.
            client.begin().send(b"X: " + b"x" * 9_200_000 + b"\r\n.\r\n")
            assert client.reply() == "552 5.3.4 The header section is too large"
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
        assert inbox.peak_memory() - idle < 20e6


def test_one_client_holds_no_more_than_twice_the_size(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, INBOUND_SMTP_MAX_SIZE="1000000") as inbox:
        clients = [inbox.hello().begin() for _ in range(3)]
        for client in clients:
            # A header section cannot go to the disk before its end.
            client.send(b"X: " + b"x" * 900_000)
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


def test_a_thousand_recipients_are_the_most_and_each_has_its_line(vhost: str, tmp_path: Path) -> None:
    recipients = [f"{'r' * 55}{number:04}@{'.'.join(['d' * 60] * 3)}.org" for number in range(1001)]
    with run_inbox(tmp_path, vhost) as inbox, inbox.hello() as client:
        client.send(b"MAIL FROM:<a@example.com>\r\n" + b"".join(f"RCPT TO:<{one}>\r\n".encode() for one in recipients))
        replies = [client.reply() for _ in range(1002)]
        assert replies[:-1] == ["250 2.1.0 Ok"] + ["250 2.1.5 Ok"] * 1000
        assert replies[-1].startswith("452 4.5.3 ")
        assert client.ask("DATA").startswith("354 ")
        client.send(CONTENT + b".\r\n")
        lines = client.reply().split("\n")
    assert lines.pop() == "250 2.0.0 Accepted"
    assert [line.partition(" for ")[2] for line in lines] == [f"<{one}>" for one in recipients[:-1]]
    assert max(map(len, lines)) <= 510
    documents = [document for document, _ in take_messages(vhost, "inbox")]
    assert {f"250-2.0.0 {one['id']} for <{one['recipient']}>" for one in documents} == set(lines)
    assert {one["recipients-total"] for one in documents} == {1000}


def test_the_connections_of_all_clients_are_bounded(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, INBOUND_SMTP_MAX_CONNECTIONS="2") as inbox:
        with inbox.hello(), inbox.hello(), inbox.connect() as third:
            assert third.reply().startswith("421 4.3.2 ")
            assert third.reply() == ""
        wait_until(lambda: inbox.metric("smtp_inbox_sessions") == 0)
        inbox.hello().socket.close()


def test_fifty_connections_of_one_address_by_default(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost) as inbox:
        fifty = [inbox.hello() for _ in range(50)]
        with inbox.connect() as client:
            assert client.reply().startswith("421 4.7.0 ")
        for client in fifty:
            assert client.ask("QUIT") == "221 2.0.0 Bye"
            client.socket.close()


def test_normalize(vhost: str, tmp_path: Path) -> None:
    with run_inbox(tmp_path, vhost, INBOUND_SMTP_BARE_NEWLINES="normalize") as inbox:
        with inbox.hello().begin() as client:
            client.send(b"Subject: x\n\none\rtwo\n.\nthree\r\n.\r\n")
            assert client.reply().startswith("250-2.0.0")
        ((document, _),) = take_messages(vhost, "inbox")
    assert without_received(content_of(document)) == b"Subject: x\r\n\r\none\r\ntwo\r\n.\r\nthree\r\n"


def test_a_client_outside_of_the_range_may_not_relay(vhost: str, tmp_path: Path) -> None:
    routes = ('"b@example.org"@mx.example', "b%example.org@mx.example", "example.org!b@mx.example", "b@[127.0.0.1]")
    with run_inbox(tmp_path, vhost, SMTP_RANGE="192.0.2.0/24") as inbox:
        with inbox.hello() as client:
            assert client.ask("MAIL FROM:<a@example.com>")[:3] == "250"
            for recipient in ("b@example.org", *routes):
                assert client.ask(f"RCPT TO:<{recipient}>").startswith("550 5.7.1")
            assert client.ask("DATA").startswith("554 5.5.1")
        assert take_messages(vhost, "inbox") == []


def test_local_recipients_are_no_back_door(vhost: str, tmp_path: Path) -> None:
    settings = {"SMTP_RANGE": "192.0.2.0/24", "LOCAL_DOMAINS": "mx.example", "RABBITMQ_LOCAL": "local"}
    routes = ('"b@example.org"@mx.example', "b%example.org@mx.example", "example.org!b@mx.example")
    with run_inbox(tmp_path, vhost, **settings) as inbox, inbox.hello() as client:
        assert client.ask("MAIL FROM:<a@example.com>")[:3] == "250"
        for recipient in routes:
            assert client.ask(f"RCPT TO:<{recipient}>") == "550 5.7.1 No routing by local parts"
        assert client.ask("RCPT TO:<@mx.example:b@example.org>").startswith("553 5.1.3 ")
        assert client.ask("RCPT TO:<b@mx.example@example.org>").startswith("553 5.1.3 ")
        assert client.ask("RCPT TO:<b@example.org>") == "550 5.7.1 No relay for you"
        assert client.ask("DATA").startswith("554 5.5.1")
        assert client.ask("RCPT TO:<b@mx.example>") == "250 2.1.5 Ok"
