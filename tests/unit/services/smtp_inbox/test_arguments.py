"""The arguments of EHLO, MAIL, RCPT and BDAT."""

import pytest

from services.smtp_inbox.arguments import ChunkArgument, MailArgument, Refusal, parse_chunk, parse_helo, parse_mail, parse_rcpt


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
        ("FROM:<a@example.com> SMTPUTF8", MailArgument("a@example.com", True, 0)),
        ("FROM:<a@xn--bcher-kva.example>", MailArgument("a@xn--bcher-kva.example", False, 0)),
        ("FROM:<a@b\u00fccher.example> SMTPUTF8", MailArgument("a@b\u00fccher.example", True, 0)),
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
        ("FROM:<a@example.com> NOTIFY=NEVER", "555 5.5.4"),
        ("FROM:<a@b\u00fccher.example>", "553 5.6.7"),
        ("FROM:<a@example.com> SMTPUTF8 SMTPUTF8", "501 5.5.4"),
        ("FROM:<a@example.com> RET=BODY", "501 5.5.4"),
        ("FROM:<a@example.com> RET", "501 5.5.4"),
        ("FROM:<a@example.com> RET=", "501 5.5.4"),
        ("FROM:<a@example.com> RET=FULL RET=FULL", "501 5.5.4"),
        ("FROM:<a@example.com> ENVID", "501 5.5.4"),
        ("FROM:<a@example.com> ENVID=a+2", "501 5.5.4"),
        ("FROM:<a@example.com> ENVID=a+2b", "501 5.5.4"),
        ("FROM:<a@example.com> ENVID=a=b", "501 5.5.4"),
        ("FROM:<a@example.com> ENVID=+0D+0A", "501 5.5.4"),
        ("FROM:<a@example.com> ENVID=+C3+A9", "501 5.5.4"),
        ("FROM:<a@example.com> ENVID=\u00e9 SMTPUTF8", "501 5.5.4"),
        ("FROM:<a@example.com> ENVID=+20", "501 5.5.4"),
        ("FROM:<a@example.com> ENVID=" + "x" * 101, "501 5.5.4"),
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


@pytest.mark.parametrize(
    ("parameters", "dsn"),
    [
        ("RET=FULL", {"ret": "FULL"}),
        ("ret=hdrs ENVID=QQ314159", {"ret": "HDRS", "envid": "QQ314159"}),
        ("ENVID=a+2Bb+3Dc+20d", {"envid": "a+b=c d"}),
        ("ENVID=" + "x" * 100, {"envid": "x" * 100}),
    ],
)
def test_what_mail_asks_to_be_told(parameters: str, dsn: dict[str, str]) -> None:
    assert parse_mail(f"FROM:<a@example.com> SIZE=1 {parameters}", extended=True, max_size=1000).dsn == dsn


@pytest.mark.parametrize("recipient", ["b@example.org", "B+tag@Example.ORG", '"b c"@example.org', "b@[192.0.2.1]"])
def test_rcpt_keeps_the_recipient_byte_for_byte(recipient: str) -> None:
    assert parse_rcpt(f"TO:<{recipient}>", extended=True, smtputf8=False).recipient == recipient


@pytest.mark.parametrize(
    ("parameters", "dsn"),
    [
        ("NOTIFY=NEVER", {"notify": ["NEVER"]}),
        ("notify=Delay,success", {"notify": ["SUCCESS", "DELAY"]}),
        ("NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;B+2Bx@Example.org",
         {"notify": ["SUCCESS", "FAILURE", "DELAY"], "orcpt": "rfc822;B+x@Example.org"}),
        ("ORCPT=X400;/c=us/".replace("=us", "+3Dus"), {"orcpt": "X400;/c=us/"}),
        ("ORCPT=utf-8;\\x{7528}\\x{6237}@example.org", {"orcpt": "utf-8;\u7528\u6237@example.org"}),
        ("ORCPT=rfc822;" + "x" * 493, {"orcpt": "rfc822;" + "x" * 493}),
    ],
    ids=["never", "some, in any case", "all", "another kind of address", "utf-8 as xtext", "the longest"],
)  # fmt: skip
def test_what_rcpt_asks_to_be_told(parameters: str, dsn: dict[str, object]) -> None:
    assert parse_rcpt(f"TO:<b@example.org> {parameters}", extended=True, smtputf8=False).dsn == dsn


def test_an_original_recipient_beyond_ascii_needs_smtputf8() -> None:
    argument = "TO:<b@example.org> ORCPT=utf-8;\u7528\u6237@example.org"
    assert parse_rcpt(argument, extended=True, smtputf8=True).dsn == {"orcpt": "utf-8;\u7528\u6237@example.org"}
    with pytest.raises(Refusal, match=r"^553 5.6.7"):
        parse_rcpt(argument, extended=True, smtputf8=False)


def test_rcpt_beyond_ascii_needs_smtputf8() -> None:
    assert parse_rcpt("TO:<\u7528\u6237@example.org>", extended=True, smtputf8=True).recipient == "\u7528\u6237@example.org"
    with pytest.raises(Refusal, match=r"^553 5.6.7"):
        parse_rcpt("TO:<\u7528\u6237@example.org>", extended=True, smtputf8=False)


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("TO:<>", "553 5.1.3"),
        ("TO:<b>", "553 5.1.3"),
        ("TO:<b@example.org.>", "553 5.1.3"),
        ("TO:<a@b@c>", "553 5.1.3"),
        ("TO:<b@example.org> RET=FULL", "555 5.5.4"),
        ("TO:<b@example.org> SMTPUTF8", "555 5.5.4"),
        ("TO:<b@example.org> NOTIFY", "501 5.5.4"),
        ("TO:<b@example.org> NOTIFY=", "501 5.5.4"),
        ("TO:<b@example.org> NOTIFY=NEVER,DELAY", "501 5.5.4"),
        ("TO:<b@example.org> NOTIFY=SUCCESS,,DELAY", "501 5.5.4"),
        ("TO:<b@example.org> NOTIFY=SOMETIMES", "501 5.5.4"),
        ("TO:<b@example.org> NOTIFY=NEVER NOTIFY=NEVER", "501 5.5.4"),
        ("TO:<b@example.org> ORCPT", "501 5.5.4"),
        ("TO:<b@example.org> ORCPT=b@example.org", "501 5.5.4"),
        ("TO:<b@example.org> ORCPT=rfc822;", "501 5.5.4"),
        ("TO:<b@example.org> ORCPT=;b@example.org", "501 5.5.4"),
        ("TO:<b@example.org> ORCPT=rfc822;a=b@example.org", "501 5.5.4"),
        ("TO:<b@example.org> ORCPT=rfc822;+0D+0AX:", "501 5.5.4"),
        ("TO:<b@example.org> ORCPT=utf-8;\\x{0A}", "501 5.5.4"),
        ("TO:<b@example.org> ORCPT=utf-8;\\x{D800}", "501 5.5.4"),
        ("TO:<b@example.org> ORCPT=rfc822;" + "x" * 494, "501 5.5.4"),
        ("TO:<postmaster>", "550 5.1.1"),
        ("FROM:<b@example.org>", "501 5.5.4"),
    ],
)
def test_rcpt_refused(argument: str, reply: str) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_rcpt(argument, extended=True, smtputf8=False)
    assert str(refusal.value).startswith(reply)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("0 LAST", ChunkArgument(0, True)),
        ("1000", ChunkArgument(1000, False)),
        ("1000 last", ChunkArgument(1000, True)),
        ("00012  Last", ChunkArgument(12, True)),
    ],
)
def test_chunk(argument: str, expected: ChunkArgument) -> None:
    assert parse_chunk(argument) == expected


@pytest.mark.parametrize(
    "argument", ["", "LAST", "-1", "+1", "1.5", "0x10", "1 FIRST", "1LAST", "1 LAST LAST", "9" * 21, "\u0661", "1_000"]
)
def test_no_chunk(argument: str) -> None:
    with pytest.raises(Refusal, match=r"^501 5.5.4"):
        parse_chunk(argument)
