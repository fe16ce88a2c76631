"""8-bit mail in 7 bits: the standard library's parser, as an independent reader, finds the same in every part."""

from __future__ import annotations

import time
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.downgrade import MAX_DEPTH, MAX_PARTS, downgrade

TEXT = "Grüße, and more text in plain letters = 1 \r\n.\r\nFrom here\r\n".encode()
PLAIN = (
    b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + TEXT
)
Leaf = tuple[str, str | None, bytes | None]


def leaves(content: bytes) -> list[Leaf]:
    """(type, charset, decoded content) of every part without parts."""
    return [
        (part.get_content_type(), part.get_content_charset(), decoded(part))
        for part in message_from_bytes(content).walk()
        if not part.is_multipart()
    ]


def decoded(part: Message) -> bytes | None:
    payload = part.get_payload(decode=True)
    assert payload is None or isinstance(payload, bytes)
    return payload


def changed(content: bytes) -> bytes:
    """Downgraded, in 7 bits and in lines of a length that MIME allows."""
    result = downgrade(content)
    assert result is not None
    assert result.isascii()
    assert result.replace(b"\r\n", b"").count(b"\n") == 0
    assert downgrade(result) is result
    return result


def test_seven_bits_stay_as_they_are() -> None:
    for content in (b"", b"x", b"DKIM-Signature: x\r\n\r\nx\r\n"):
        assert downgrade(content) is content


def test_text() -> None:
    result = changed(PLAIN)
    assert result == (
        b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"Gr=C3=BC=C3=9Fe, and more text in plain letters =3D 1=20\r\n=2E\r\nFrom here\r\n"
    )
    assert leaves(result) == leaves(PLAIN)


def test_text_that_is_smaller_in_base64() -> None:
    content = PLAIN.replace(TEXT, "Приветствую\r\n".encode() * 20)
    result = changed(content)
    assert b"\r\nContent-Transfer-Encoding: base64\r\n" in result
    assert result.endswith(b"\r\n")
    assert max(map(len, result.split(b"\r\n"))) <= 76
    assert leaves(result) == leaves(content)


def test_long_lines_are_folded() -> None:
    content = PLAIN + b"x" * 5000
    result = changed(content)
    assert max(map(len, result.split(b"\r\n"))) <= 76
    assert leaves(result) == leaves(content)


@pytest.mark.parametrize(
    ("content", "added"),
    [
        ("Subject: x\r\n\r\nü\r\n".encode(), "utf-8"),
        (b"Subject: x\r\n\r\n\xfc\r\n", "unknown-8bit"),
        ("ü\r\n".encode(), "utf-8"),
        ("\r\nü\r\n".encode(), "utf-8"),
        ("junk\r\nü\r\n".encode(), "utf-8"),
        ("Subject: x\r\njunk ü\r\n".encode(), "utf-8"),
    ],
)
def test_content_without_mime_gets_it(content: bytes, added: str) -> None:
    result = changed(content)
    assert (
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=" + added.encode() + b"\r\nContent-Transfer-Encoding: " in result
    )
    [(kind, charset, text)] = leaves(result)
    assert (kind, charset) == ("text/plain", added)
    assert text is not None
    assert text.strip() in content


def test_no_charset_is_invented() -> None:
    content = PLAIN.replace(b"; charset=utf-8", b"")
    assert b"Content-Type: text/plain\r\n" in changed(content)


def test_a_type_without_mime_version_gets_one() -> None:
    assert b"MIME-Version: 1.0\r\n" in changed(PLAIN.replace(b"MIME-Version: 1.0\r\n", b""))


@pytest.mark.parametrize("declared", [b"7bit", b"8BIT", b"binary (raw)", b""])
def test_whatever_encoding_was_declared(declared: bytes) -> None:
    content = PLAIN.replace(b"8bit", declared)
    result = changed(content)
    assert result.count(b"Content-Transfer-Encoding") == 1
    assert leaves(result)[0][2] == TEXT


MIXED = (
    b'Subject: =?utf-8?q?=C3=BC?=\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary="a b"\r\n'
    b"Content-Transfer-Encoding: 8bit\r\n\r\npr\xc3\xa9ambule\r\n"
    b"--a b\r\nContent-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n<p>\xfc</p>\r\n"
    b"--a b  \r\nContent-Type: text/plain\r\n\r\n  seven   \r\n--a bc\r\n\r\n"
    b"--a b\r\nContent-Type: application/pdf; x=\"; boundary=no\"\r\nContent-Transfer-Encoding: binary\r\n\r\n%\xff\xfe\r\n"
    b"--a b\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n"
    b"--a\r\n\r\nnothing\r\n--a\r\n\r\n\xc3\xbc\r\n--a--\r\nepilogue \xff\r\n"
    b"--a b\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"DKIM-Signature: of another mail\r\nSubject: in\xc3\xa9\r\n\r\nn\xc3\xa9sted\r\n"
    b"--a b\r\nContent-Type: multipart/digest; boundary=d\r\n\r\n--d\r\n\r\nSubject: digest\r\n\r\n\xc3\xa4\r\n--d--\r\n"
    b"--a b\r\nContent-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\nsigned\r\n--s\r\n\r\nby\r\n--s--\r\n"
    b"--a b--\r\nbye \xff\r\n"
)  # fmt: skip


def test_a_tree_of_parts() -> None:
    result = changed(MIXED)
    before = [(kind, text) for kind, _, text in leaves(MIXED)]
    after = [(kind, text) for kind, _, text in leaves(result)]
    assert after == before
    assert len(after) == 9
    # What has 7 bits is the same to the octet.
    for untouched in (
        b"Content-Type: text/plain\r\n\r\n  seven   \r\n--a bc\r\n\r\n--a b\r\n",
        b"\r\n--a\r\n\r\nnothing\r\n--a\r\n",
        b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\nsigned\r\n--s\r\n\r\nby\r\n--s--\r\n",
    ):
        assert untouched in MIXED
        assert untouched in result
    assert result.count(b"Content-Transfer-Encoding: 7bit\r\n") == 2
    assert b"pr??ambule" in result
    assert result.endswith(b"--a b--\r\nbye ?\r\n")
    assert b"Subject: =?utf-8?" in result


@pytest.mark.parametrize("last", [b"\r\n--a b--", b"", b"\r\n--a b"])
def test_the_end_is_missing(last: bytes) -> None:
    content = MIXED[: MIXED.index(b"\r\n--a b  ")] + last
    assert [leaf[2] for leaf in leaves(changed(content))] == [leaf[2] for leaf in leaves(content)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Subject: x", b"DKIM-Signature: v=1"),
        (b"Subject: x", b"arc-seal: i=1"),
        (b"Subject: x", b"ARC-Message-Signature: i=1"),
        (b"text/plain; charset=utf-8", b"application/pkcs7-mime; smime-type=signed-data"),
        (b"text/plain; charset=utf-8", b"Application/X-PKCS7-MIME"),
        (b"text/plain; charset=utf-8", b"multipart/signed; boundary=x"),
        (b"text/plain; charset=utf-8", b"multipart/encrypted; boundary=x"),
        (b"text/plain; charset=utf-8", b"multipart/mixed"),
        (b"text/plain; charset=utf-8", b"multipart/mixed boundary=x"),
        (b"text/plain; charset=utf-8", b"multipart/mixed; boundary=absent"),
        (b"text/plain; charset=utf-8", b"multipart/mixed; boundary=absent; boundary=here"),
        (b"text/plain; charset=utf-8", b"message/delivery-status"),
        (b"text/plain; charset=utf-8", b"message/partial; id=x; number=1"),
        (b"8bit", b"base64"),
        (b"8bit", b"quoted-printable"),
        (b"8bit", b"x-uuencode"),
        (b"8bit", b"8bit\r\nContent-Transfer-Encoding: 7bit"),
        (b"charset=utf-8", b"charset=utf-8\r\nContent-Type: text/html"),
        (b"Subject: x", "From: Jürgen <j@x.de>".encode()),
        (b"Subject: x", "To: jürgen@x.de".encode()),
        (b"charset=utf-8", 'charset=utf-8; name="ü"'.encode()),
        (b"Subject: x", b"Subject: \xfc"),
        (b"Subject: x", "Subject: ü".encode() + b"\0"),
        (b"Subject: x", "From ü".encode()),
        (b"Subject: x", b"Subject: " + "ü".encode() * 20_000),
        (b"Subject: x", b"X: 1\r\n" * 10_001 + b"Subject: x"),
    ],
)
def test_what_must_not_or_cannot_be_changed(old: bytes, new: bytes) -> None:
    assert old in PLAIN
    assert downgrade(PLAIN.replace(old, new)) is None


def test_a_signed_part_with_eight_bits() -> None:
    assert downgrade(MIXED.replace(b"\r\nsigned\r\n", b"\r\nsigned \xff\r\n")) is None


@pytest.mark.parametrize(
    "value", ["Grüße", "  Grüße\r\n\tund mehr", "=?utf-8?q?=C3=A4?= ü", "ü" * 300, "plain words " * 20 + "ü", "日本語 mixed"]
)
@pytest.mark.parametrize("name", ["Subject", "X-Campaign", "Comments"])
def test_raw_header_text_becomes_encoded_words(name: str, value: str) -> None:
    content = f"A: 1\r\n{name}: {value}\r\nB:  2\r\n\r\nbody\r\n".encode()
    result = changed(content)
    assert result.startswith(b"A: 1\r\n" + name.encode() + b": ")
    assert result.endswith(b"\r\nB:  2\r\n\r\nbody\r\n")
    assert max(map(len, result.split(b"\r\n"))) <= 78
    wanted = value.replace("\r\n", "").strip().replace("=?utf-8?q?=C3=A4?=", "ä")
    assert str(make_header(decode_header(message_from_bytes(result)[name].replace("\r\n", "")))) == wanted


def test_a_mail_that_is_a_header_alone() -> None:
    assert changed("Subject: ü".encode()) == b"Subject: =?utf-8?b?w7w=?=\r\n"
    assert changed("Subject: ü\r\n\r\n".encode()) == b"Subject: =?utf-8?b?w7w=?=\r\n\r\n"


def nested(depth: int, filling: bytes = b"") -> bytes:
    head = b"".join(b"Content-Type: multipart/mixed; boundary=b%d.\r\n\r\n--b%d.\r\n" % (level, level) for level in range(depth))
    return b"MIME-Version: 1.0\r\n" + head + b"\r\n\xff" + filling + b"\r\n"


def test_nesting_is_bounded() -> None:
    assert leaves(changed(nested(90))) == [("text/plain", "unknown-8bit", b"\xff\r\n")]
    assert downgrade(nested(MAX_DEPTH + 1)) is None


@pytest.mark.parametrize(
    "content",
    [
        nested(99, b"x" * 20_000_000),
        nested(99, b"\xff" * 5_000_000),
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * 4_000_000 + b"\xff",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\xff\r\n" * (MAX_PARTS + 1),
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b x" * 4_000_000 + b"\xff",
        b"Content-Type: text/plain" + b";a=" * 80_000 + b"\r\n\r\n\xff",
        b'Content-Type: text/plain; a="' + b"\\" * 250_000 + b"\r\n\r\n\xff",
        b"A: 1\r\n" * 3_000_000 + b"\r\n\xff",
        b"Content-Type: message/rfc822\r\n\r\n" * 5_000 + b"\xff",
    ],
    ids=lambda content: f"{len(content)}-{content[14:40]!a}",
)
def test_crafted_structure_costs_no_more_than_size(content: bytes) -> None:
    began = time.process_time()
    downgrade(content)
    assert time.process_time() - began < 2


LINES = st.lists(st.binary(max_size=90).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")), max_size=8)
BODY = LINES.map(b"\r\n".join)
LEAF = st.tuples(
    st.sampled_from(
        [b"", b"Content-Type: text/plain\r\n", b"Content-Type: text/html; charset=latin-1\r\n", b"Content-Type: image/gif\r\n"]
    ),
    st.sampled_from([b"", b"Content-Transfer-Encoding: 8bit\r\n", b"X-Other: 1\r\n"]),
    BODY,
).map(lambda leaf: leaf[0] + leaf[1] + b"\r\n" + leaf[2])


def join(parts: list[bytes], number: int, ends: bool) -> bytes:
    boundary = b"=_%d" % number
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + (
        b"--" + boundary + b"--\r\n" if ends else b""
    )
    return b'Content-Type: multipart/mixed; boundary="' + boundary + b'"\r\n\r\n' + body


TREE = st.recursive(
    LEAF,
    lambda inner: (
        st.builds(join, st.lists(inner, min_size=1, max_size=3), st.integers(1, 10**9), st.just(True))
        | inner.map(lambda mail: b"Content-Type: message/rfc822\r\n\r\n" + mail)
    ),
    max_leaves=6,
)


@given(TREE)
@settings(max_examples=300, deadline=None)
def test_every_part_decodes_to_what_it_was(tree: bytes) -> None:
    content = b"MIME-Version: 1.0\r\n" + tree + b"\r\n"
    result = changed(content)
    assert [leaf[2] for leaf in leaves(result)] == [leaf[2] for leaf in leaves(content)]
    assert [part.get_content_type() for part in message_from_bytes(result).walk()] == [
        part.get_content_type() for part in message_from_bytes(content).walk()
    ]


@given(
    st.binary(max_size=300) | st.text(alphabet="Content-Type: multipart/mixed;boundary=a\r\n\xff--", max_size=200).map(str.encode)
)
@settings(max_examples=300, deadline=None)
def test_any_octets(content: bytes) -> None:
    result = downgrade(content)
    assert result is None or result.isascii()
