"""The envelope's addresses: accepted as they are or refused with a reason, never repaired."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.address import (
    InvalidAddress,
    Mailbox,
    domain_to_ascii,
    parse_mailbox,
    parse_path,
    parse_reverse_path,
    split,
    split_path,
)

ACCEPTED = [
    ("joe@example.com", "joe", "example.com", True),
    ("joe@localhost", "joe", "localhost", True),
    ("Joe.Doe+tag=x@Mail.Example.COM", "Joe.Doe+tag=x", "Mail.Example.COM", True),
    ("!#$%&'*+-/=?^_`{|}~@example.com", "!#$%&'*+-/=?^_`{|}~", "example.com", True),
    ("a%b@c.de", "a%b", "c.de", True),
    ('"a b"@example.com', '"a b"', "example.com", True),
    ('"a@b"@example.com', '"a@b"', "example.com", True),
    ('"a\\"b\\\\"@example.com', '"a\\"b\\\\"', "example.com", True),
    ('""@example.com', '""', "example.com", True),
    ("joe@[192.0.2.1]", "joe", "[192.0.2.1]", True),
    ("joe@[IPv6:2001:db8::1]", "joe", "[IPv6:2001:db8::1]", True),
    ("joe@[ipv6:::1]", "joe", "[ipv6:::1]", True),
    ("joe@xn--bcher-kva.example", "joe", "xn--bcher-kva.example", True),
    ("joe@3com.com", "joe", "3com.com", True),
    ("jörg@bücher.example", "jörg", "bücher.example", False),
    ("用户@例子.广告", "用户", "例子.广告", False),
    ("joe@Bücher.example", "joe", "Bücher.example", False),
    ("a" * 64 + "@example.com", "a" * 64, "example.com", True),
    ("a@" + "b" * 63 + ".de", "a", "b" * 63 + ".de", True),
    ("a@" + ".".join(["b" * 50] * 5), "a", ".".join(["b" * 50] * 5), True),
]

REFUSED = [
    ("", "empty"),
    ("joe", "no @"),
    ("@example.com", "local part is missing"),
    ("joe@", "domain is missing"),
    ("a@b@c", "more than one @"),
    ("@a.de,@b.de:joe@c.de", "source routes"),
    ("friends:joe@c.de;", "character ':'"),
    ("joe(comment)@c.de", "character '('"),
    ("joe@c.de(comment)", "letters, digits and hyphens"),
    ("Joe <joe@c.de>", "character ' '"),
    ("<joe@c.de>", "character '<'"),
    ("a b@c.de", "character ' '"),
    (" a@c.de", "character ' '"),
    ("a@c.de ", "letters, digits and hyphens"),
    ("a,b@c.de", "character ','"),
    ("a@c.de, z@y.x", "more than one @"),
    (".a@c.de", "a dot at the start"),
    ("a.@c.de", "a dot at the start"),
    ("a..b@c.de", "a dot at the start"),
    ('"a@c.de', "not closed"),
    ('"a"b@c.de', "expected @"),
    ('"a"', "no @"),
    ('a"b"@c.de', "character '\"'"),
    ("a@c.de.", "dot at the end"),
    ("a@.c.de", "empty label"),
    ("a@c..de", "empty label"),
    ("a@-c.de", "hyphen"),
    ("a@c-.de", "hyphen"),
    ("a@c_d.de", "letters, digits and hyphens"),
    ("a@192.0.2.1", "ends in a number"),
    ("a@1", "ends in a number"),
    ("a@[192.0.2.1", "not closed"),
    ("a@[192.0.2.256]", "neither"),
    ("a@[192.0.2]", "neither"),
    ("a@[2001:db8::1]", "neither"),
    ("a@[IPv6:fe80::1%eth0]", "neither"),
    ("a@[IPv6:x]", "neither"),
    ("a@[x-tag:y]", "neither"),
    ("a@[]", "neither"),
    ("a" * 65 + "@c.de", "local part is longer than 64"),
    ("ü" * 33 + "@c.de", "local part is longer than 64"),
    ("a@" + "b" * 64 + ".de", "label of the domain is longer than 63"),
    ("a@" + ".".join(["b" * 60] * 5), "domain is longer than 255"),
    ("a@" + "b." * 1000 + "de", "too long"),
    ("a@ü" + "b" * 60 + ".de", "internationalized"),
    ("a@b。de", "dot of another script"),
    ("a@ℂ.de", "internationalized"),
    ("a@a⁄b.de", "internationalized"),
    *((f"a{chr(code)}@c.de", f"U+{code:04X}") for code in (0, 9, 10, 13, 27, 127, 0x85, 0x2028, 0xD800, 0xFFFF)),
    *((f"a@c.de{chr(code)}", f"U+{code:04X}") for code in (0, 10, 13)),
    ('"a\r\nRCPT TO:<x@y.de>"@c.de', "U+000D"),
]


@pytest.mark.parametrize(("text", "local", "domain", "is_ascii"), ACCEPTED)
def test_accepted(text: str, local: str, domain: str, is_ascii: bool) -> None:
    mailbox = parse_mailbox(text)
    assert mailbox == Mailbox(local, domain, is_ascii)
    assert mailbox.address == str(mailbox) == text
    assert split(mailbox) == {"local": local, "domain": domain}
    assert mailbox.is_literal == domain.startswith("[")


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=lambda value: ascii(value)[:40])
def test_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidAddress) as refusal:
        parse_mailbox(text)
    assert why in str(refusal.value)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 700


def test_null_reverse_path() -> None:
    assert parse_reverse_path("<>") is None
    assert parse_reverse_path("<joe@example.com>") == Mailbox("joe", "example.com", True)


@pytest.mark.parametrize(
    "text", ["", "<", ">", "joe@example.com", "<joe@example.com", "< >", "<<joe@example.com>>", "<postmaster>"]
)
def test_refused_reverse_paths(text: str) -> None:
    with pytest.raises(InvalidAddress):
        parse_reverse_path(text)


def test_forward_paths() -> None:
    assert parse_path("<Postmaster>") == Mailbox("Postmaster", "", True)
    assert parse_path("<Postmaster>").address == "Postmaster"
    assert parse_path("<joe@example.com>").address == "joe@example.com"
    for refused in ("<>", "<joe>", "postmaster", "<@a.de:joe@b.de>"):
        with pytest.raises(InvalidAddress):
            parse_path(refused)


@pytest.mark.parametrize(
    ("argument", "path", "rest"),
    [
        ("<>", "<>", ""),
        ("<a@b.de>", "<a@b.de>", ""),
        ("<a@b.de> SIZE=1 BODY=8BITMIME", "<a@b.de>", "SIZE=1 BODY=8BITMIME"),
        ('<"a> b"@b.de> SIZE=1', '<"a> b"@b.de>', "SIZE=1"),
        ('<"a\\"> b"@b.de>', '<"a\\"> b"@b.de>', ""),
    ],
)
def test_the_path_is_parted_from_its_parameters(argument: str, path: str, rest: str) -> None:
    assert split_path(argument) == (path, rest)


@pytest.mark.parametrize("argument", ["", "a@b.de", " <a@b.de>", "<a@b.de", '<"a>', "<a@b.de>SIZE=1", "<a@b.de>>"])
def test_arguments_without_a_whole_path_are_refused(argument: str) -> None:
    with pytest.raises(InvalidAddress):
        split_path(argument)


@pytest.mark.parametrize(
    ("domain", "in_dns"),
    [
        ("Example.COM", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("straße.de", "xn--strae-oqa.de"),
        ("[192.0.2.1]", "[192.0.2.1]"),
    ],
)
def test_domains_as_they_stand_in_the_dns(domain: str, in_dns: str) -> None:
    assert domain_to_ascii(domain) == in_dns


@pytest.mark.parametrize("domain", ["", ".", "a.", "a b", "a@b", "[x]", "ü" * 300, "a\n.de"])
def test_what_cannot_stand_in_the_dns(domain: str) -> None:
    with pytest.raises(InvalidAddress):
        domain_to_ascii(domain)


@given(st.text(max_size=40) | st.text(alphabet='ab.@"\\[]:<>() \t\r\nü', max_size=20))
@settings(max_examples=400, deadline=None)
def test_any_text_is_kept_as_it_is_or_refused(text: str) -> None:
    try:
        mailbox = parse_mailbox(text)
    except InvalidAddress:
        return
    assert mailbox.address == text
    assert not set(text) & set("\r\n\0\t")
    assert mailbox.is_ascii == text.isascii()
    assert parse_reverse_path(f"<{text}>") == mailbox
    assert split_path(f"<{text}> SIZE=1") == (f"<{text}>", "SIZE=1")
    assert domain_to_ascii(mailbox.domain).isascii()


ATOM = st.text("abcXYZ019!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=8)
LABEL = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,3})?", fullmatch=True)


@given(st.lists(ATOM, min_size=1, max_size=4).map(".".join), st.lists(LABEL, min_size=1, max_size=4).map(".".join))
@settings(max_examples=150, deadline=None)
def test_every_dot_atom_at_a_domain_name_is_an_address(local: str, domain: str) -> None:
    assert parse_mailbox(f"{local}@{domain}") == Mailbox(local, domain, True)
