"""Forms of addresses that two servers read in two ways: taken byte for byte as what they say, or refused; never repaired."""

from typing import Any

import pytest

from tests.integration.attacks.targets import Target
from tests.integration.json_inbox_process import Inbox as Web
from tests.integration.json_inbox_process import message
from tests.integration.smtp_inbox_process import CONTENT

REFUSED = {
    "two @": "a@b.example@c.example",
    "two @ at the end": "a@@c.example",
    "a route": "@b.example:a@c.example",
    "two routes": "@b.example,@d.example:a@c.example",
    "a group": "undisclosed:a@c.example;",
    "a comment": "a(comment)@c.example",
    "a comment in the domain": "a@(comment)c.example",
    "a name": "A <a@c.example>",
    "a list": "a@c.example,b@c.example",
    "brackets in brackets": "<a@c.example>",
    "a space": "a b@c.example",
    "a tab": "a\tb@c.example",
    "a space in front": " a@c.example",
    "no local part": "@c.example",
    "no domain": "a@",
    "no @": "a",
    "a dot in front": ".a@c.example",
    "a dot at the end": "a.@c.example",
    "two dots": "a..b@c.example",
    "a dot behind the domain": "a@c.example.",
    "two dots in the domain": "a@c..example",
    "a hyphen in front": "a@-c.example",
    "an underscore in the domain": "a@c_d.example",
    "an IPv4 address without brackets": "a@192.0.2.1",
    "a number for an address": "a@3221225985",
    "half a literal": "a@[192.0.2.1",
    "a literal that is none": "a@[192.0.2.256]",
    "a zone": "a@[IPv6:fe80::1%eth0]",
    "a UUCP path without a host": "b.example!a",
    "an open quote": '"a@c.example',
    "a quote in the middle": 'a"b"@c.example',
    "text behind a quote": '"a"b@c.example',
    "a quote in a quote": '"a"b"@c.example',
    "a dot of another script": "a@c\u3002example",
    "a full-width @": "a\uff20c.example",
    "a label of 64": f"a@{'c' * 64}.example",
    "a local part of 65": f"{'a' * 65}@c.example",
    "a domain of 256": f"a@{'.'.join(['c' * 63] * 4)}c",
    "a soft hyphen": "a@c\u00addash.example",
    "a zero-width joiner": "a@c\u200dd.example",
    "a domain in bold": "a@\U0001d41c.example",
}
TAKEN = {
    "percent": "a%b.example@c.example",
    "bang": "b.example!a@c.example",
    "an @ in quotes": '"a@b.example"@c.example',
    "a bracket in quotes": '"a>b"@c.example',
    "a list in quotes": '"a@c.example,b"@c.example',
    "a quoted pair": '"a\\"b\\\\c"@c.example',
    "a space in quotes": '" "@c.example',
    "a comment in quotes": '"a(c)"@c.example',
    "case": "A.b@C.Example",
    "a plus": "a+b=c@c.example",
    "a pipe": "|/bin/sh@c.example",
    "a path": "/etc/passwd@c.example",
    "an option": "-oQ/tmp@c.example",
    "a shell's": "${IFS}`id`@c.example",
    "a literal": "a@[192.0.2.1]",
    "a literal of IPv6": "a@[IPv6:2001:db8::1]",
}
_TAKEN = pytest.mark.parametrize("address", TAKEN.values(), ids=TAKEN)
_REFUSED = pytest.mark.parametrize("address", REFUSED.values(), ids=REFUSED)


@_REFUSED
def test_smtp_refuses(refusing: Target, address: str) -> None:
    with refusing.inbox.hello() as client:
        assert client.ask(f"MAIL FROM:<{address}> SMTPUTF8")[:3] in ("501", "500", "553")
        assert client.ask("MAIL FROM:<a@example.com> SMTPUTF8").startswith("250 ")
        assert client.ask(f"RCPT TO:<{address}>")[:3] in ("501", "500", "553")
        assert client.ask("DATA").startswith("554 5.5.1 ")


@_TAKEN
def test_smtp_takes_as_it_is(refusing: Target, address: str) -> None:
    with refusing.inbox.hello() as client:
        client.begin(address, reverse_path=address).send(CONTENT + b".\r\n")
        told = client.reply()
    (document,) = refusing.take()
    assert (document["envelope"], document["recipient"]) == (address, address)
    assert told.startswith(f"250-2.0.0 {document['id']} for <{address}>\n")


@_REFUSED
def test_http_refuses(web: Web, address: str) -> None:
    for body, field in (
        (message(address), "recipient"),
        (message(envelope=address), "envelope"),
        ({"recipients": ["a@c.example", address], "mime": "x"}, "recipients[1]"),
    ):
        answer = web.http.post("/v1/messages", json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert web.queues.take("inbox") == []


@_TAKEN
def test_http_takes_as_it_is(web: Web, address: str) -> None:
    body: dict[str, Any] = message(address, envelope=address)
    assert web.http.post("/v1/messages", json=body).status_code == 202
    (got,) = web.queues.take("inbox")
    assert (got.document["envelope"], got.document["recipient"]) == (address, address)
