"""No open relay: every kind of client with every form of recipient."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.integration.attacks.targets import PASSWORD, ClientFrom, Target, encode_plain, open_target
from tests.integration.smtp_inbox_process import CONTENT, Client, content_of, take_messages
from tests.stack import Stack
from tests.support.waiting import free_ports

STRANGER, PROXY = "127.0.0.2", "127.0.0.9"
NO_RELAY, NO_ROUTE = "550 5.7.1 No relay for you", "550 5.7.1 No routing by local parts"
LOCAL = ("b@local.example", "B@LOCAL.example", '"b c"@local.example')
"""Everybody may send to them."""
FOREIGN = {
    "b@foreign.example": NO_RELAY,
    "b@sub.local.example": NO_RELAY,
    "b@local.example.foreign.example": NO_RELAY,
    "b@notlocal.example": NO_RELAY,
    "b@[127.0.0.1]": NO_RELAY,
    "b@[IPv6:::1]": NO_RELAY,
    "b@mx.example": NO_RELAY,
    "b@xn--lcal-fqa.example": NO_RELAY,
    "b%foreign.example@local.example": NO_ROUTE,
    "foreign.example!b@local.example": NO_ROUTE,
    '"b@foreign.example"@local.example': NO_ROUTE,
    '"foreign.example!b"@local.example': NO_ROUTE,
    "b%local.example@foreign.example": NO_RELAY,
    "local.example!b@foreign.example": NO_RELAY,
}
"""Only those who may relay may; with the reply to others."""
NOBODY = (
    "@local.example:b@foreign.example",
    "b@foreign.example@local.example",
    "b@local.example@foreign.example",
    "b@local.example.",
    "b@local.example,c@foreign.example",
    "b@foreign.example\\@local.example",
    "postmaster",
    "",
)
"""No recipients at all."""


@dataclass(frozen=True)
class Relay:
    """The process and its listeners."""

    target: Target
    submission: int

    @property
    def port(self) -> int:
        return self.target.inbox.port


@pytest.fixture(scope="module")
def relay(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Clients at 127.0.0.1 may relay, and those that the proxy at 127.0.0.9 names so."""
    amqp = servers.rabbitmq.create_vhost("attacks-relay")
    relaying, submission = free_ports(2)
    settings = {
        "INBOUND_SMTP_LISTEN": f"relay://127.0.0.1:{relaying},submission://127.0.0.1:{submission}",
        "SMTP_RANGE": "127.0.0.1/32",
        "INBOUND_SMTP_PROXY_FROM": PROXY,
        "LOCAL_DOMAINS": "local.example",
        "RABBITMQ_LOCAL": "local",
    }
    with open_target(tmp_path_factory.mktemp("relay"), amqp, **settings) as target:
        target.inbox.port = relaying
        yield Relay(target, submission)
    servers.rabbitmq.drop_vhost("attacks-relay")


def greet(client: Client, name: str = "client.example") -> Client:
    assert client.reply().startswith("220 ")
    assert client.ask(f"EHLO {name}").startswith("250-")
    return client


def stranger(relay: Relay) -> Client:
    return greet(ClientFrom(relay.port, STRANGER))


def stranger_with_our_name(relay: Relay) -> Client:
    return greet(ClientFrom(relay.port, STRANGER), "mx.example")


def stranger_with_an_address_in_range(relay: Relay) -> Client:
    return greet(ClientFrom(relay.port, STRANGER), "[127.0.0.1]")


def stranger_under_tls(relay: Relay) -> Client:
    client = stranger(relay)
    client.start_tls(relay.target.made.client_context())
    assert client.ask("EHLO client.example").startswith("250-")
    return client


def stranger_with_a_wrong_password(relay: Relay) -> Client:
    client = stranger_under_tls(relay)
    for name, password in (("app", "wrong"), ("nobody", PASSWORD), ("", ""), ("app", "")):
        assert client.ask(f"AUTH PLAIN {encode_plain(name, password)}").startswith("535 ")
    return client


def stranger_who_gave_up(relay: Relay) -> Client:
    client = stranger_under_tls(relay)
    assert client.ask("AUTH LOGIN YXBw").startswith("334 ")
    assert client.ask("*").startswith("501 ")
    return client


def stranger_behind_a_proxy(relay: Relay) -> Client:
    client = ClientFrom(relay.port, PROXY)
    client.send(b"PROXY TCP4 203.0.113.7 127.0.0.1 4000 25\r\n")
    return greet(client)


def in_range(relay: Relay) -> Client:
    return greet(Client(relay.port))


def in_range_behind_a_proxy(relay: Relay) -> Client:
    client = ClientFrom(relay.port, PROXY)
    client.send(b"PROXY TCP4 127.0.0.1 127.0.0.1 4000 25\r\n")
    return greet(client)


def authenticated(relay: Relay) -> Client:
    client = stranger_under_tls(relay)
    assert client.ask(f"AUTH PLAIN {encode_plain('app', PASSWORD)}").startswith("235 ")
    return client


Open = Callable[[Relay], Client]
KINDS: dict[Open, bool] = {
    stranger: False,
    stranger_with_our_name: False,
    stranger_with_an_address_in_range: False,
    stranger_under_tls: False,
    stranger_with_a_wrong_password: False,
    stranger_who_gave_up: False,
    stranger_behind_a_proxy: False,
    in_range: True,
    in_range_behind_a_proxy: True,
    authenticated: True,
}
"""Kind of client → may it relay?"""


@pytest.mark.parametrize("reverse_path", ["a@example.com", "", "boss@local.example", "a@[127.0.0.1]"], ids=repr)
@pytest.mark.parametrize(("open_client", "may_relay"), KINDS.items(), ids=[kind.__name__ for kind in KINDS])
def test_the_table(relay: Relay, open_client: Open, may_relay: bool, reverse_path: str) -> None:
    with open_client(relay) as client:
        assert client.ask(f"MAIL FROM:<{reverse_path}>").startswith("250 ")
        for recipient, refusal in FOREIGN.items():
            assert client.ask(f"RCPT TO:<{recipient}>") == ("250 2.1.5 Ok" if may_relay else refusal), recipient
        for recipient in NOBODY:
            assert client.ask(f"RCPT TO:<{recipient}>")[:3] in ("501", "550", "553"), recipient
        for recipient in LOCAL:
            assert client.ask(f"RCPT TO:<{recipient}> ORCPT=rfc822;c@foreign.example") == "250 2.1.5 Ok", recipient
        assert client.ask("DATA").startswith("354 ")
        client.send(CONTENT + b".\r\n")
        assert client.reply().count("250-2.0.0 ") == len(LOCAL) + (len(FOREIGN) if may_relay else 0)
    sent = {document["recipient"] for document in relay.target.take()}
    # Their local parts are never read as routes, so for those who may relay they are local.
    assert sent == ({address for address in FOREIGN if not address.endswith("@local.example")} if may_relay else set())


def test_headers_name_no_recipients_and_open_nothing(relay: Relay) -> None:
    """What a stranger writes into the content says nothing about where the mail goes: not even a mistake in it is looked at."""
    take_messages(relay.target.amqp, "local")
    instructions = {
        "X-MQ-Smarthost-Hostname: 127.0.0.1": "smarthost",
        "X-MQ-Ip: 127.0.0.1": "ips",
        "X-MQ-Success-Queue: outbox": "queues",
        "X-MQ-Envelope: boss@local.example": "",
        "X-MQ-Key: v1/somebody/elses": "key",
        "X-MQ-Recipient: c@foreign.example": "",
        "X-MQ-Anything: x": "anything",
        "X-MQ-MaxAttempts: many": "maxattempts",
        "To: c@foreign.example\r\nBcc: d@foreign.example": "",
    }
    for header, name in instructions.items():
        with stranger(relay) as client:
            client.begin("b@local.example").send(header.encode() + b"\r\n" + CONTENT + b".\r\n")
            assert client.reply().count("250-2.0.0 ") == 1
        ((document, _),) = take_messages(relay.target.amqp, "local")
        assert (document["recipient"], document["envelope"]) == ("b@local.example", "a@example.com")
        assert name not in document
        content = content_of(document).partition(b"+0000\r\n")[2]
        assert content == (header.encode() + b"\r\n" if header.startswith("To") else b"") + CONTENT
    assert relay.target.take() == []


def test_who_is_no_proxy_names_nobody(relay: Relay) -> None:
    for header in (
        b"PROXY TCP4 127.0.0.1 127.0.0.1 4000 25\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\1\x7f\0\0\1\x0f\xa0\0\x19",
    ):
        with ClientFrom(relay.port, STRANGER) as client:
            client.send(header + b"EHLO client.example\r\n")
            replies = [client.reply(), client.reply()]
            assert not [reply for reply in replies if reply.startswith("250")]
    with stranger(relay) as client:
        assert client.ask("XCLIENT ADDR=127.0.0.1").startswith("502 ")
        assert client.ask("XFORWARD ADDR=127.0.0.1").startswith("502 ")
        assert client.ask("PROXY TCP4 127.0.0.1 127.0.0.1 4000 25").startswith("500 ")
        assert client.reply() == ""


def test_submission_asks_everybody_for_auth(relay: Relay) -> None:
    for address in ("127.0.0.1", STRANGER):
        with greet(ClientFrom(relay.submission, address)) as client:
            for reverse_path in ("a@example.com", ""):
                assert client.ask(f"MAIL FROM:<{reverse_path}>") == "530 5.7.0 Authentication required"
            assert client.ask("RCPT TO:<b@local.example>").startswith("503 ")
            assert client.ask("DATA").startswith("503 ")
            assert client.ask(f"AUTH PLAIN {encode_plain('app', PASSWORD)}").startswith("538 ")
            client.start_tls(relay.target.made.client_context())
            client.ask("EHLO client.example")
            assert client.ask("MAIL FROM:<a@example.com>") == "530 5.7.0 Authentication required"
            assert client.ask(f"AUTH PLAIN {encode_plain('app', PASSWORD)}").startswith("235 ")
            assert client.ask("MAIL FROM:<a@example.com>").startswith("250 ")


def test_auth_does_not_outlive_its_connection(relay: Relay) -> None:
    with authenticated(relay) as client:
        assert client.ask("MAIL FROM:<a@example.com>").startswith("250 ")
    with stranger(relay) as client:
        assert client.ask("MAIL FROM:<a@example.com>").startswith("250 ")
        assert client.ask("RCPT TO:<b@foreign.example>") == NO_RELAY
