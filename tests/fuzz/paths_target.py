"""Addresses and paths: kept as they are, or refused with ``InvalidAddress`` and nothing else."""

from collections.abc import Callable
from typing import TypeVar

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

T = TypeVar("T")
SEEDS = [
    b"a@example.com",
    b"<a@example.com> SIZE=1",
    b'"a b\\"c>"@[IPv6:2001:db8::1]',
    "jörg@bücher.example".encode(),
    b"@a.example,@b.example:c@d.example",
    b"a%b@c",
    b"<>",
    b"<postmaster>",
    "用户@例子.测试".encode(),
    b"a@xn--bcher-kva.example",
    "a@b\ufffdc.example".encode(),
]
WORDS = [
    b"@",
    b'"',
    b"\\",
    b"<",
    b">",
    b"[",
    b"]",
    b".",
    b"IPv6:",
    b"xn--",
    b"\xc3\xbc",
    b"\xe3\x80\x82",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"%",
]
NEVER = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u2028", "\u2029"}


def run(data: bytes) -> None:
    """Raises when something is found."""
    text = data.decode("utf-8", "surrogateescape")
    mailbox = _read(parse_mailbox, text)
    if mailbox is not None:
        _check(text, mailbox)
    for parse in (parse_path, parse_reverse_path, split_path, domain_to_ascii):
        _read(parse, text)


def _check(text: str, mailbox: Mailbox) -> None:
    assert mailbox.address == text
    assert not NEVER & set(text)
    text.encode()
    assert split(mailbox) == {"local": mailbox.local, "domain": mailbox.domain}
    assert len(mailbox.local.encode()) <= 64
    if not mailbox.local.startswith('"'):
        assert "@" not in mailbox.local + mailbox.domain
    name = domain_to_ascii(mailbox.domain)
    assert name.isascii()
    assert len(name) <= 255
    assert domain_to_ascii(name) == name
    assert split_path(f"<{text}> X=Y") == (f"<{text}>", "X=Y")
    assert parse_path(f"<{text}>") == parse_reverse_path(f"<{text}>") == mailbox


def _read(parse: Callable[[str], T], text: str) -> T | None:
    """What was read; None when it was refused with a sentence that any reply and any log can hold."""
    try:
        return parse(text)
    except InvalidAddress as error:
        told = str(error)
    assert told.isascii(), told
    assert told.isprintable(), ascii(told)
    return None
