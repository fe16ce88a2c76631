"""The arguments of EHLO, MAIL and RCPT."""

import pytest

from services.smtp_inbox.arguments import MailArgument, Refusal, parse_helo, parse_mail, parse_rcpt


@pytest.mark.parametrize("name", ["mail.example.com", "localhost", "my_host", "[127.0.0.1]", "[IPv6:2001:db8::1]", "a"])
def test_a_name_in_ehlo(name: str) -> None:
    assert parse_helo(name) == name


@pytest.mark.parametrize("name", ["", "two words", "(evil)", "a\tb", "<a>", "x" * 300, "a;b", '"q"', "\u00e9"])
def test_no_name_in_ehlo(name: str) -> None:
    with pytest.raises(Refusal, match=r"^501 5.5.4"):
        parse_helo(name)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<>", MailArgument("", False, 0)),
        ("from:<a@example.com>", MailArgument("a@example.com", False, 0)),
        ("FROM: <a@example.com>", MailArgument("a@example.com", False, 0)),
        ("FROM:<a@example.com> SIZE=1000 BODY=8BITMIME", MailArgument("a@example.com", False, 1000)),
        ("FROM:<a@example.com> body=7bit", MailArgument("a@example.com", False, 0)),
        ('FROM:<"a > b"@example.com> SIZE=1', MailArgument('"a > b"@example.com', False, 1)),
        ("FROM:<j\u00f6rg@example.com> SMTPUTF8", MailArgument("j\u00f6rg@example.com", True, 0)),
    ],
)
def test_mail(argument: str, expected: MailArgument) -> None:
    assert parse_mail(argument, extended=True, max_size=1000) == expected


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("", "501 5.5.4"),
        ("<a@example.com>", "501 5.5.4"),
        ("FROM:", "501 5.5.4"),
        ("FROM:a@example.com", "501 5.5.4"),
        ("FROM:<a@example.com", "501 5.5.4"),
        ("FROM:<a@example.com>SIZE=1", "501 5.5.4"),
        ("FROM:<a@b@example.com>", "553 5.1.7"),
        ("FROM:<@relay.example:a@example.com>", "553 5.1.7"),
        ("FROM:<a b@example.com>", "553 5.1.7"),
        ("FROM:<a@example.com> SIZE=1001", "552 5.3.4"),
        ("FROM:<a@example.com> SIZE=99999999999999999999", "552 5.3.4"),
        ("FROM:<a@example.com> SIZE=999999999999999999999", "501 5.5.4"),
        ("FROM:<a@example.com> SIZE=-1", "501 5.5.4"),
        ("FROM:<a@example.com> SIZE", "501 5.5.4"),
        ("FROM:<a@example.com> SIZE=\u0661", "501 5.5.4"),
        ("FROM:<a@example.com> SIZE=1 SIZE=2", "501 5.5.4"),
        ("FROM:<a@example.com> BODY=BINARYMIME", "501 5.5.4"),
        ("FROM:<a@example.com> SMTPUTF8=yes", "501 5.5.4"),
        ("FROM:<a@example.com>  SIZE=1 ", "ok"),
        ("FROM:<a@example.com> RET=HDRS ENVID=QQ1", "555 5.5.4"),
        ("FROM:<a@example.com> AUTH=<>", "555 5.5.4"),
        ("FROM:<a@example.com> =x", "501 5.5.4"),
        ("FROM:<j\u00f6rg@example.com>", "553 5.6.7"),
    ],
)
def test_mail_refused(argument: str, reply: str) -> None:
    if reply == "ok":
        assert parse_mail(argument, extended=True, max_size=1000).size == 1
        return
    with pytest.raises(Refusal) as refusal:
        parse_mail(argument, extended=True, max_size=1000)
    assert str(refusal.value).startswith(reply)


def test_parameters_need_ehlo() -> None:
    with pytest.raises(Refusal, match=r"^501 5.5.4 Parameters need EHLO"):
        parse_mail("FROM:<a@example.com> SIZE=1", extended=False, max_size=1000)


@pytest.mark.parametrize("recipient", ["b@example.org", "B+tag@Example.ORG", '"b c"@example.org', "b@[192.0.2.1]"])
def test_rcpt_keeps_the_recipient_byte_for_byte(recipient: str) -> None:
    assert parse_rcpt(f"TO:<{recipient}>", extended=True, smtputf8=False) == recipient


def test_rcpt_beyond_ascii_needs_smtputf8() -> None:
    assert parse_rcpt("TO:<\u7528\u6237@example.org>", extended=True, smtputf8=True) == "\u7528\u6237@example.org"
    with pytest.raises(Refusal, match=r"^553 5.6.7"):
        parse_rcpt("TO:<\u7528\u6237@example.org>", extended=True, smtputf8=False)


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("TO:<>", "553 5.1.3"),
        ("TO:<b>", "553 5.1.3"),
        ("TO:<b@example.org.>", "553 5.1.3"),
        ('TO:<"a@b"@c>', "ok"),
        ("TO:<a@b@c>", "553 5.1.3"),
        ("TO:<b@example.org> NOTIFY=NEVER", "555 5.5.4"),
        ("TO:<b@example.org> ORCPT=rfc822;b@example.org", "555 5.5.4"),
        ("TO:<postmaster>", "550 5.1.1"),
        ("FROM:<b@example.org>", "501 5.5.4"),
    ],
)
def test_rcpt_refused(argument: str, reply: str) -> None:
    if reply == "ok":
        assert parse_rcpt(argument, extended=True, smtputf8=False) == '"a@b"@c'
        return
    with pytest.raises(Refusal) as refusal:
        parse_rcpt(argument, extended=True, smtputf8=False)
    assert str(refusal.value).startswith(reply)
