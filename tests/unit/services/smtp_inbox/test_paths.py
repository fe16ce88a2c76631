"""Which paths MAIL and RCPT take: what is taken stays byte for byte, what is not is refused, and nothing is rewritten."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.smtp_inbox.arguments import RcptArgument, Refusal, parse_mail, parse_rcpt

LONG_DOMAIN = ".".join(["d" * 60] * 4)
"""243 octets."""

TAKEN = {
    "plain": "a@example.org",
    "percent hack": "a%b@example.org",
    "bang path": "b!a@example.org",
    "quoted at": '"a@b"@example.org',
    "quoted pairs": '"a\\"b\\\\c"@example.org',
    "quoted angle": '"a>b"@example.org',
    "quoted space": '"a b"@example.org',
    "nothing quoted": '""@example.org',
    "one label": "a@c",
    "IPv4": "a@[192.0.2.1]",
    "IPv6": "a@[IPv6:2001:db8::1]",
    "IPv6 with IPv4 in it": "a@[IPv6:::ffff:192.0.2.1]",
    "64 octets": "l" * 64 + "@example.org",
    "256 octets with brackets": "l" * 10 + "@" + LONG_DOMAIN,
    "A-labels": "a@xn--bcher-kva.example",
}
REFUSED = {
    "nobody": "",
    "two ats": "a@b@c",
    "source route": "@relay.example,@b.example:a@example.org",
    "percent hack after a route": "@relay.example:a%b@example.org",
    "group": "friends:a@example.org;",
    "empty group": "undisclosed-recipients:;",
    "comment in the local part": "a(comment)@example.org",
    "comment in the domain": "a@example.org(comment)",
    "comment in front": "(comment)a@example.org",
    "display name": "A <a@example.org>",
    "two addresses": "a@example.org,b@example.org",
    "no domain": "a",
    "no local part": "@example.org",
    "dot at the end": "a@example.org.",
    "dot in front": ".a@example.org",
    "dot behind": "a.@example.org",
    "two dots": "a..b@example.org",
    "two dots in the domain": "a@example..org",
    "underscore in the domain": "a@ex_ample.org",
    "hyphen in front": "a@-example.org",
    "number as a domain": "a@192.0.2.1",
    "hexadecimal number": "a@[0x7f.1]",
    "IPv6 without its tag": "a@[2001:db8::1]",
    "IPv6 with a zone": "a@[IPv6:fe80::1%eth0]",
    "IPv6 that is none": "a@[IPv6:2001:db8::1::2]",
    "no closing bracket": "a@[192.0.2.1",
    "words behind a literal": "a@[192.0.2.1].example.org",
    "unquoted space": "a b@example.org",
    "unquoted quote": 'a"b@example.org',
    "unclosed quote": '"a@example.org',
    "text behind the quote": '"a"b@example.org',
    "65 octets": "l" * 65 + "@example.org",
    "64 octets of a label": "a@" + "d" * 64 + ".example",
    "257 octets with brackets": "l" * 11 + "@" + LONG_DOMAIN,
    "NUL": "a\0@example.org",
    "CR LF": "a\r\nRCPT TO:<b@example.org>@example.org",
    "DEL": "a\x7f@example.org",
    "tab in quotes": '"a\tb"@example.org',
    "C1 control": "a\x85@example.org",
}
ROUTED = {"percent hack", "bang path", "quoted at"}


@pytest.mark.parametrize("path", TAKEN.values(), ids=TAKEN)
def test_taken_as_it_is(path: str) -> None:
    assert parse_rcpt(f"TO:<{path}>", extended=True, smtputf8=False).recipient == path
    assert parse_mail(f"FROM:<{path}>", extended=True, max_size=1000).reverse_path == path


@pytest.mark.parametrize("path", REFUSED.values(), ids=REFUSED)
def test_refused(path: str) -> None:
    with pytest.raises(Refusal, match=r"^5(01|53) 5\.(1\.3|5\.4) |^553 5\.6\.7 "):
        parse_rcpt(f"TO:<{path}>", extended=True, smtputf8=False)
    if path:
        with pytest.raises(Refusal, match=r"^5(01|53) 5\.(1\.7|5\.4) |^553 5\.6\.7 "):
            parse_mail(f"FROM:<{path}>", extended=True, max_size=1000)


@pytest.mark.parametrize("kind", TAKEN)
def test_a_local_part_that_could_name_another_host_is_marked(kind: str) -> None:
    assert RcptArgument(TAKEN[kind]).is_routed == (kind in ROUTED)


@pytest.mark.parametrize("name", ["postmaster", "Postmaster", "POSTMASTER"])
def test_the_postmaster_without_a_domain(name: str) -> None:
    with pytest.raises(Refusal, match=r"^550 5\.1\.1 "):
        parse_rcpt(f"TO:<{name}>", extended=True, smtputf8=False)


TEXT = st.text(max_size=60) | st.text(alphabet='ab.@%!"\\[]:<>() ,;+=\t\r\n\0\u00fc\u7528', max_size=30)
PARAMETERS = st.lists(
    st.sampled_from(["NOTIFY=", "ORCPT=", "RET=", "ENVID=", "SIZE=", "BODY=", "SMTPUTF8", "never", "rfc822;", "+41", "\\x{41}"])
    | TEXT,
    max_size=6,
).map("".join)


def refusal_of(parse: Callable[[], Any]) -> str:
    """The reply; "" when nothing is refused. Any other exception is a bug."""
    try:
        parse()
    except Refusal as refusal:
        return str(refusal)
    return ""


@given(TEXT, PARAMETERS, st.booleans(), st.booleans())
@settings(max_examples=500, deadline=None)
def test_any_text_is_kept_as_it_is_or_refused_with_a_reply(path: str, parameters: str, smtputf8: bool, extended: bool) -> None:
    rcpt = partial(parse_rcpt, f"TO:<{path}> {parameters}", extended=extended, smtputf8=smtputf8)
    refusal = refusal_of(rcpt)
    if not refusal:
        recipient = rcpt().recipient
        assert path.startswith(recipient)
        assert smtputf8 or recipient.isascii()
        assert parse_rcpt(f"TO:<{recipient}>", extended=True, smtputf8=True).recipient == recipient
    mail = partial(parse_mail, f"FROM:<{path}> {parameters}", extended=extended, max_size=1000)
    refusals = [refusal, refusal_of(mail)]
    if not refusals[1]:
        assert path.startswith(mail().reverse_path)
        assert mail().smtputf8 or mail().reverse_path.isascii()
    for text in filter(None, refusals):
        assert text[:1] == "5"
        assert text.isascii()
        assert text.isprintable()
