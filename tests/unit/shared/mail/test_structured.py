"""Structured mail becomes a message: read back by the standard library's parser, which is not what wrote the headers."""

import base64
import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.mail.address import parse_mailbox
from shared.mail.content import has_bare_newlines, is_seven_bit
from shared.mail.headers import parse_extract, parse_header_section
from shared.mail.structured import StructuredMailError, ion_to_structured, render_mail

NOW = datetime(2026, 11, 23, 4, 32, tzinfo=UTC)
LEAST = {"from": "a@b.de"}


def render(mail: dict[str, Any]) -> bytes:
    return render_mail(mail, now=NOW, message_id_domain="mx.example.com")


def read(mail: dict[str, Any]) -> EmailMessage:
    content = render(mail)
    assert not has_bare_newlines(content)
    assert is_seven_bit(content)
    assert max(map(len, content.split(b"\r\n"))) <= 998
    message = email.message_from_bytes(content.replace(b"\r\n", b"\n"), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def test_everything() -> None:
    message = read(
        {
            "from": {"name": "Jörg, of X", "address": "joerg@bücher.example"},
            "to": ['"Doe, Jane" <jane@example.org>, Joe <joe@example.org>', {"address": "k@example.org"}],
            "cc": "Ann Ü <ann@example.org>",
            "bcc": "secret@example.org",
            "replyTo": [{"name": "R", "address": "r@example.org"}],
            "subject": "Grüße an alle",
            "text": "Hällo\nWorld\n",
            "content": "<p>Hällo</p>",
            "headers": {"X-One": "1", "X-Two": ["a", "b"]},
            "attachments": [
                {"data": base64.b64encode(b"\x00\xff" * 500).decode(), "name": "Übersicht.pdf", "type": "application/pdf"},
                {"data": base64.b64encode(b"a;b\n").decode(), "name": "a.csv", "type": "text/csv; charset=utf-8"},
                {"data": ""},
            ],
        }
    )
    assert [(a.display_name, a.addr_spec) for a in message["From"].addresses] == [("Jörg, of X", "joerg@xn--bcher-kva.example")]
    assert [(a.display_name, a.addr_spec) for a in message["To"].addresses] == [
        ("Doe, Jane", "jane@example.org"),
        ("Joe", "joe@example.org"),
        ("", "k@example.org"),
    ]
    assert str(message["Cc"]) == "Ann Ü <ann@example.org>"
    assert message["Bcc"] is None
    assert b"secret" not in message.as_bytes()
    assert str(message["Reply-To"]) == "R <r@example.org>"
    assert message["Subject"] == "Grüße an alle"
    assert (message["X-One"], message.get_all("X-Two")) == ("1", ["a", "b"])
    assert message["Date"].datetime == NOW
    assert message["Message-ID"].endswith("@mx.example.com>")
    assert message["MIME-Version"] == "1.0"
    alternative, *files = message.iter_parts()
    assert message.get_content_type() == "multipart/mixed"
    assert isinstance(alternative, EmailMessage)
    assert [part.get_content_type() for part in alternative.iter_parts()] == ["text/plain", "text/html"]
    assert [part.get_content() for part in alternative.iter_parts()] == ["Hällo\nWorld\n", "<p>Hällo</p>\n"]
    assert [(file.get_filename(), file.get_content_type()) for file in files] == [
        ("Übersicht.pdf", "application/pdf"),
        ("a.csv", "text/csv"),
        (None, "application/octet-stream"),
    ]
    assert [file.get_payload(decode=True) for file in files] == [b"\x00\xff" * 500, b"a;b\n", b""]


def test_images_of_the_html_travel_with_it() -> None:
    message = read(
        LEAST
        | {
            "text": "hi",
            "content": '<img src="cid:logo"><img src="cid:b@x.example">',
            "attachments": [
                {"data": base64.b64encode(b"file").decode(), "name": "a.pdf"},
                {"data": base64.b64encode(b"\x89PNG").decode(), "name": "Löwe.png", "content-id": "logo"},
                {"data": base64.b64encode(b"GIF8").decode(), "type": "image/gif", "content-id": "<b@x.example>"},
            ],
        }
    )
    assert message.get_content_type() == "multipart/mixed"
    alternative, file = message.iter_parts()
    assert (file.get_filename(), file.get_content_disposition(), file.get_payload(decode=True)) == (
        "a.pdf",
        "attachment",
        b"file",
    )
    assert isinstance(alternative, EmailMessage)
    text, related = alternative.iter_parts()
    assert text.get_content() == "hi\n"
    assert (related.get_content_type(), related.get_param("type")) == ("multipart/related", "text/html")
    assert isinstance(related, EmailMessage)
    html, *images = related.iter_parts()
    assert html.get_content_type() == "text/html"
    assert [(image["Content-ID"], image.get_content_type(), image.get_content_disposition()) for image in images] == [
        ("<logo>", "image/png", "inline"),
        ("<b@x.example>", "image/gif", "inline"),
    ]
    assert [image.get_filename() for image in images] == ["Löwe.png", None]
    assert [image.get_payload(decode=True) for image in images] == [b"\x89PNG", b"GIF8"]


def test_images_alone_need_no_mixed_part() -> None:
    image = {"data": "YQ==", "type": "image/png", "content-id": "logo"}
    message = read(LEAST | {"content": "<p>hi</p>", "attachments": [image]})
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "multipart/related"]


def test_text_alone_is_one_part() -> None:
    message = read(LEAST | {"text": "hello"})
    assert message.get_content_type() == "text/plain"
    assert message.get_content() == "hello\n"


def test_text_is_derived_from_html_only_when_absent() -> None:
    derived = read(LEAST | {"content": "<p>a</p><p>b</p>"}).get_body(("plain",))
    given_text = read(LEAST | {"content": "<p>a</p>", "text": ""}).get_body(("plain",))
    assert derived is not None
    assert derived.get_content() == "a\n\nb\n"
    assert given_text is not None
    assert given_text.get_content().strip() == ""


def test_two_mails_have_two_message_ids() -> None:
    assert read(LEAST)["Message-ID"] != read(LEAST)["Message-ID"]


def test_own_date_and_message_id_win() -> None:
    message = read(LEAST | {"headers": {"date": "Mon, 1 Jan 2024 00:00:00 +0000", "MESSAGE-ID": "<me@here>"}})
    assert message.get_all("Message-ID") == ["<me@here>"]
    assert message["Date"].datetime == datetime(2024, 1, 1, tzinfo=UTC)
    assert len(message.get_all("Date", [])) == 1


def test_long_urls_in_headers_stay_whole() -> None:
    value = f"<https://example.org/{'a' * 200}>, <mailto:x@example.org>"
    assert dict(parse_header_section(render(LEAST | {"headers": {"List-Unsubscribe": value}})))["List-Unsubscribe"] == value


def test_a_word_longer_than_a_line_is_encoded() -> None:
    assert read(LEAST | {"subject": "x" * 2000})["Subject"] == "x" * 2000


def test_a_local_part_beyond_ascii_needs_smtputf8() -> None:
    content = render(LEAST | {"to": "jörg@bücher.example"})
    assert b"To: j\xc3\xb6rg@xn--bcher-kva.example\r\n" in content


IMAGE: dict[str, Any] = {"data": "YQ==", "type": "image/png", "content-id": "a"}
PERSON: dict[str, Any] = {"name": "A", "address": "a@b.de"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "mime.from: missing"),
    ({"from": []}, "mime.from: a list: expected one address"),
    ({"from": ["a@b.de", "c@d.de"]}, "mime.from: a list: expected one address"),
    ({"from": 5}, "mime.from: 5"),
    ({"from": "a@b.de", "to": "nobody"}, "mime.to: expected local-part@domain"),
    ({"from": "a@b.de", "to": ["a@b.de", "a@b@c"]}, "mime.to[1]: more than one @"),
    ({"from": "a@b.de", "to": 'A "b <a@b.de>'}, "mime.to: "),
    ({"from": "a@b.de", "to": "A <a@b.de> x"}, "mime.to: "),
    ({"from": "a@b.de", "to": "a@b.de,,c@d.de"}, "mime.to: "),
    ({"from": "a@b.de", "to": ""}, "mime.to: "),
    ({"from": "a@b.de", "to": {"name": "A"}}, "mime.to.address: missing"),
    ({"from": "a@b.de", "to": PERSON | {"x": 1}}, "mime.to: a dict"),
    (
        {"from": "a@b.de", "to": PERSON | {"name": "A\r\nBcc: x@y.de"}},
        "mime.to.name: 'A\\r\\nBcc: x@y.de': control character U+000D",
    ),
    ({"from": "a@b.de", "to": PERSON | {"address": "a@b.de\r\nX: y"}}, "mime.to.address: control"),
    ({"from": "a@b.de", "to": "A\n <a@b.de>"}, "mime.to: 'A\\n <a@b.de>': control"),
    ({"from": "a@b.de", "bcc": "x"}, "mime.bcc: "),
    ({"from": "a@b.de", "subject": "a\nBcc: x@y.de"}, "mime.subject: "),
    ({"from": "a@b.de", "subject": "a\ud800"}, "mime.subject: 'a\\ud800': control character U+D800"),
    ({"from": "a@b.de", "subject": 7}, "mime.subject: 7: expected a string"),
    ({"from": "a@b.de", "subject": "x" * 20_000}, "mime.subject: "),
    ({"from": "a@b.de", "text": ["x"]}, "mime.text: a list"),
    ({"from": "a@b.de", "text": "a\0"}, "mime.text: character U+0000"),
    ({"from": "a@b.de", "content": {"blocks": []}}, "mime.content: responsive layouts (blocks) are not built yet"),
    ({"from": "a@b.de", "headers": []}, "mime.headers: a list"),
    ({"from": "a@b.de", "headers": {"X Y": "1"}}, "mime.headers: 'X Y'"),
    ({"from": "a@b.de", "headers": {"X:\r\nY": "1"}}, "mime.headers: 'X:\\r\\nY'"),
    ({"from": "a@b.de", "headers": {"": "1"}}, "mime.headers: ''"),
    ({"from": "a@b.de", "headers": {"X": "1\r\n\r\nbody"}}, "mime.headers.X: "),
    ({"from": "a@b.de", "headers": {"X": 1}}, "mime.headers.X: 1"),
    ({"from": "a@b.de", "headers": {"Bcc": "x@y.de"}}, "mime.headers.Bcc: give it as the property bcc"),
    ({"from": "a@b.de", "headers": {"Content-Type": "x"}}, "mime.headers.Content-Type: the conversion"),
    ({"from": "a@b.de", "headers": {f"X{number}": "1" for number in range(201)}}, "mime.headers: "),
    ({"from": "a@b.de", "attachments": {}}, "mime.attachments: a dict"),
    ({"from": "a@b.de", "attachments": ["x"]}, "mime.attachments[0]: 'x'"),
    (
        {"from": "a@b.de", "attachments": [{"url": "https://x.de"}]},
        "mime.attachments[0].url: attachments by URL are not built yet",
    ),
    ({"from": "a@b.de", "attachments": [{"data": "", "x": 1}]}, "mime.attachments[0].x: "),
    ({"from": "a@b.de", "attachments": [{"name": "x"}]}, "mime.attachments[0].data: missing"),
    ({"from": "a@b.de", "attachments": [{"data": "a"}]}, "mime.attachments[0].data: not base64"),
    ({"from": "a@b.de", "attachments": [{"data": "YQ==", "type": "pdf"}]}, "mime.attachments[0].type: 'pdf'"),
    ({"from": "a@b.de", "attachments": [{"data": "YQ==", "type": "a/b\r\nX: y"}]}, "mime.attachments[0].type: "),
    ({"from": "a@b.de", "attachments": [{"data": "YQ==", "type": "message/rfc822"}]}, "mime.attachments[0].type: "),
    ({"from": "a@b.de", "attachments": [{"data": "YQ==", "name": "a\r\nX: y"}]}, "mime.attachments[0].name: "),
    ({"from": "a@b.de", "attachments": [IMAGE]}, "mime.attachments[0].content-id: there is no HTML"),
    ({"from": "a@b.de", "content": "x", "attachments": [IMAGE, IMAGE]}, "mime.attachments[1].content-id: 'a': another"),
    ({"from": "a@b.de", "content": "x", "attachments": [IMAGE | {"content-id": 5}]}, "mime.attachments[0].content-id: 5"),
    (
        {"from": "a@b.de", "content": "x", "attachments": [IMAGE | {"content-id": "a>\r\nX: y"}]},
        "mime.attachments[0].content-id: 'a>\\r\\nX: y': expected an id",
    ),
    ({"from": "a@b.de", "font": "x"}, "mime.font: not a property of structured mail"),
]


@pytest.mark.parametrize(("mail", "why"), REFUSED, ids=[why[:40] for _, why in REFUSED])
def test_refused_with_the_property_named(mail: dict[str, Any], why: str) -> None:
    with pytest.raises(StructuredMailError) as refusal:
        render(mail)
    assert str(refusal.value).startswith(why)
    assert str(refusal.value).isprintable()


def test_ions_message_becomes_structured_mail() -> None:
    action = {"action": "send", "recipient": "joe@example.org", "subject": "Hi", "body_text": "a", "body_html": "<p>a</p>"}
    mail = ion_to_structured(action, "Service <service@example.com>")
    message = read(mail)
    assert (message["From"], message["To"], message["Subject"]) == ("Service <service@example.com>", "joe@example.org", "Hi")
    assert [part.get_content() for part in message.iter_parts()] == ["a\n", "<p>a</p>\n"]


@pytest.mark.parametrize(
    ("changes", "sender", "why"),
    [
        ({}, "", "actions-sender is not set"),
        ({"action": "redrive"}, "a@b.de", "action: 'redrive': expected send"),
        ({"recipient": None}, "a@b.de", "recipient: missing"),
        ({"recipient": 5}, "a@b.de", "recipient: 5: expected a string"),
        ({"recipient": "nobody"}, "a@b.de", "recipient: expected local-part@domain"),
        ({"recipient": "a@b.de, c@d.de"}, "a@b.de", "recipient: more than one @"),
        ({"body_text": ""}, "a@b.de", "body_text and body_html: both are missing"),
        ({"subject": ["x"]}, "a@b.de", "subject: a list"),
    ],
)
def test_ions_message_refused(changes: dict[str, Any], sender: str, why: str) -> None:
    action = {"action": "send", "recipient": "joe@example.org", "subject": "Hi", "body_text": "a"} | changes
    with pytest.raises(StructuredMailError) as refusal:
        ion_to_structured(action, sender)
    assert str(refusal.value).startswith(why)


LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=120)


@given(subject=LINE, name=LINE, text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200), header=LINE)
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_what_is_read(subject: str, name: str, text: str, header: str) -> None:
    mail = {"from": PERSON | {"name": name}, "to": "c@d.de", "subject": subject, "text": text, "headers": {"X-A": header}}
    content = render(mail)
    extract = parse_extract(content)
    assert extract["from"] == "a@b.de"
    assert extract["to"] == ["c@d.de"]
    assert set(extract["headers"]) == {
        "from", "to", "subject", "x-a", "date", "message-id", "mime-version", "content-type", "content-transfer-encoding",
    }  # fmt: skip
    assert extract["subject"].split() == subject.split()
    assert parse_mailbox(extract["from"]).domain == "b.de"
    body = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(body, EmailMessage)
    read_back = body.get_content()
    assert "".join(read_back.split()) == "".join(text.split())
