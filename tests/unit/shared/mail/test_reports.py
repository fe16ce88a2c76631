"""Reports of each kind as they are seen in the world, and mails that only look like them."""

import time

import pytest

from shared.mail.reports import LOOKED_AT, Report, find_report, parse_content_type


def mail(head: str, body: str = "") -> bytes:
    """A mail of these lines."""
    lines = "Received: from a by b; Fri, 1 Mar 2024 10:00:00 +0000\nMIME-Version: 1.0\n" + head.strip() + "\n\n" + body.lstrip()
    return lines.replace("\n", "\r\n").encode()


BOUNCE_PARTS = """
--b1
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered.

--b1
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example.org

Final-Recipient: rfc822; nobody@example.org
Action: failed
Status: 5.1.1

--b1
Content-Type: message/rfc822

Subject: hello

text
--b1--
"""
DMARC_SUBJECT = "Subject: Report domain: example.com Submitter: google.com Report-ID: 1234567890"
ZIP = "UEsDBAoAAAAIAA==\n"

REPORTS = {
    "postfix bounce": (
        Report.DSN,
        mail(
            """From: MAILER-DAEMON@mail.example.org (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: a@example.com
Auto-Submitted: auto-replied
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="b1" """,
            BOUNCE_PARTS,
        ),
    ),
    "exchange bounce": (
        Report.DSN,
        mail(
            """From: <postmaster@example.onmicrosoft.com>
Subject: Undeliverable: hello
Content-Type: Multipart/Report; report-type="delivery-status"; boundary=b1""",
            BOUNCE_PARTS,
        ),
    ),
    "gmail bounce, boundary first": (
        Report.DSN,
        mail(
            'From: Mail Delivery Subsystem <mailer-daemon@googlemail.com>\nContent-Type: multipart/report; boundary="b1"; '
            "report-type=delivery-status\nSubject: Delivery Status Notification (Failure)",
            BOUNCE_PARTS,
        ),
    ),
    "bounce without report-type": (
        Report.DSN,
        mail("Subject: failure\nContent-Type: multipart/report; boundary=b1", BOUNCE_PARTS),
    ),
    "bounce with a comment in its type": (
        Report.DSN,
        mail("Content-Type: multipart/report (bounce); report-type = delivery-status ; boundary=b1", BOUNCE_PARTS),
    ),
    "bounce with its text nested": (
        Report.DSN,
        mail(
            "Content-Type: multipart/report; boundary=outer",
            "--outer\nContent-Type: multipart/alternative; boundary=inner\n\n--inner\nContent-Type: text/plain\n\nx\n--inner--\n"
            "--outer\nContent-Type: message/global-delivery-status\n\nx\n--outer--\n",
        ),
    ),
    "bounce cut off after its header": (
        Report.DSN,
        mail("Content-Type: multipart/report; report-type=delivery-status; boundary=b1"),
    ),
    "read receipt": (
        Report.MDN,
        mail(
            """From: B <b@example.org>
Subject: Read: hello
Content-Type: multipart/report; report-type=disposition-notification; boundary=b1""",
            "--b1\nContent-Type: text/plain\n\nread\n--b1\nContent-Type: message/disposition-notification\n\nx\n--b1--\n",
        ),
    ),
    "read receipt by its part": (
        Report.MDN,
        mail(
            "Content-Type: multipart/report; boundary=b1",
            "--b1\nContent-Type: text/plain\n\nread\n--b1\nContent-Type: Message/Disposition-Notification; name=x\n\nx\n--b1--\n",
        ),
    ),
    "complaint": (
        Report.ARF,
        mail(
            """From: <feedback@arf.example.org>
Subject: FW: Earn money
Content-Type: multipart/report; report-type=feedback-report; boundary="part1_13d.2e68ed54_boundary" """,
            "--part1_13d.2e68ed54_boundary\nContent-Type: text/plain\n\nabuse\n--part1_13d.2e68ed54_boundary--\n",
        ),
    ),
    "tls report": (
        Report.TLS,
        mail(
            """From: noreply-smtp-tls-reporting@google.com
Subject: Report Domain: example.com Submitter: google.com Report-ID: <2024.03.01T00.00.00Z+example.com@google.com>
TLS-Report-Domain: example.com
TLS-Report-Submitter: google.com
Content-Type: multipart/report; boundary="b1"; report-type=tlsrpt""",
            "--b1\nContent-Type: text/plain\n\nx\n--b1\nContent-Type: application/tlsrpt+gzip; name=r.json.gz\n\nx\n--b1--\n",
        ),
    ),
    "tls report, not as a report": (
        Report.TLS,
        mail(
            "Subject: Report Domain: example.com Submitter: mail.ru Report-ID: <1@mail.ru>\nContent-Type: multipart/mixed; boundary=b1",
            "--b1\nContent-Type: text/plain\n\nx\n--b1\nContent-Type: application/tlsrpt+gzip\n\nx\n--b1--\n",
        ),
    ),
    "dmarc of google": (
        Report.DMARC,
        mail(
            f"""{DMARC_SUBJECT}
From: noreply-dmarc-support@google.com
Content-Type: application/zip;
 name="google.com!example.com!1709251200!1709337599.zip"
Content-Disposition: attachment;
 filename="google.com!example.com!1709251200!1709337599.zip"
Content-Transfer-Encoding: base64""",
            ZIP,
        ),
    ),
    "dmarc of yahoo": (
        Report.DMARC,
        mail(
            """Subject: Report Domain: example.com Submitter: Yahoo Report-ID: <1709340000.1>
Content-Type: multipart/mixed; boundary="----=_Part_1_2.3" """,
            "------=_Part_1_2.3\nContent-Type: text/plain\n\nThis is an aggregate report from Yahoo.\n------=_Part_1_2.3\n"
            'Content-Type: application/gzip; name="yahoo.com!example.com!1!2.xml.gz"\n\nx\n------=_Part_1_2.3--\n',
        ),
    ),
    "dmarc of outlook": (
        Report.DMARC,
        mail(
            """Subject: [Preview] Report Domain: example.com Submitter: enterprise.protection.outlook.com
\tReport-ID: b6f1
Content-Type: multipart/mixed; boundary="_mpm_1_" """,
            '--_mpm_1_\nContent-Type: multipart/related; boundary="_mpr_1_"\n\n--_mpr_1_\nContent-Type: text/html\n\nx\n--_mpr_1_--\n'
            "--_mpm_1_\nContent-Type: application/gzip\nContent-Disposition: attachment; filename=e.xml.gz\n\nx\n--_mpm_1_--\n",
        ),
    ),
    "dmarc with a folded, encoded subject": (
        Report.DMARC,
        mail(
            "Subject: =?utf-8?Q?Report_Domain:_example.com?=\n =?utf-8?Q?_Submitter:_x.example?=\nContent-Type: application/gzip",
            ZIP,
        ),
    ),
    "dmarc as octets": (
        Report.DMARC,
        mail(
            f"{DMARC_SUBJECT}\nContent-Type: application/octet-stream\nContent-Disposition: attachment; filename=\"a!b!1!2.XML.GZ\"",
            ZIP,
        ),
    ),
    "dmarc as plain xml": (Report.DMARC, mail(f"{DMARC_SUBJECT}\nContent-Type: text/xml", "<feedback/>\n")),
}  # fmt: skip

INNER = "Content-Type: multipart/report; report-type=delivery-status; boundary=b1\n\n" + BOUNCE_PARTS.lstrip()

OTHERS = {
    "nothing": b"",
    "plain": mail("Subject: hello\nContent-Type: text/plain", "text\n"),
    "no header": b"\r\ntext\r\n",
    "vacation reply": mail(
        "Subject: Automatic reply: hello\nAuto-Submitted: auto-replied\nX-Auto-Response-Suppress: All\nContent-Type: text/plain",
        "I am out of the office. Your message could not be delivered to me.\n",
    ),
    "a person forwards a bounce as an attachment": mail(
        "From: B <b@example.org>\nSubject: Fwd: Undelivered Mail Returned to Sender\nContent-Type: multipart/mixed; boundary=o",
        "--o\nContent-Type: text/plain\n\nWhat is this?\n--o\nContent-Type: message/rfc822\n\n" + INNER + "\n--o--\n",
    ),
    "a person forwards a bounce inline": mail(
        "Subject: Fwd: Delivery Status Notification (Failure)\nContent-Type: text/plain",
        "> Content-Type: multipart/report; report-type=delivery-status\n> Final-Recipient: rfc822; x@example.org\n",
    ),
    "a person sends the parts of a bounce": mail("Subject: look\nContent-Type: multipart/mixed; boundary=b1", BOUNCE_PARTS),
    "an answer to a dmarc report": mail(
        "Subject: Re: Report domain: example.com Submitter: x\nContent-Type: text/plain", "thanks\n"
    ),
    "a forwarded dmarc report": mail(f"Subject: Fwd: {DMARC_SUBJECT[9:]}\nContent-Type: application/zip", ZIP),
    "the subject alone": mail(f"{DMARC_SUBJECT}\nContent-Type: text/plain", "no file here\n"),
    "the subject with other files": mail(
        f"{DMARC_SUBJECT}\nContent-Type: multipart/mixed; boundary=o", "--o\nContent-Type: image/png; name=a.png\n\nx\n--o--\n"
    ),
    "a zip file": mail("Subject: the files\nContent-Type: application/zip; name=a.zip", ZIP),
    "a report of another kind": mail("Content-Type: multipart/report; report-type=x-sales; boundary=b1", "--b1\n\nx\n--b1--\n"),
    "the type in the body": mail("Subject: x", "Content-Type: multipart/report; report-type=delivery-status\n"),
    "the type in a parameter": mail('Content-Type: text/plain; name="multipart/report; report-type=delivery-status"', "x\n"),
    "a boundary nobody has": mail("Content-Type: multipart/report; boundary=other", BOUNCE_PARTS),
    "no boundary": mail("Content-Type: multipart/report", BOUNCE_PARTS),
    "the second Content-Type": mail(
        "Content-Type: text/plain\nContent-Type: multipart/report; report-type=delivery-status", "x\n"
    ),
    "octets": bytes(range(256)) * 10,
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report(name: str) -> None:
    kind, content = REPORTS[name]
    assert find_report(content) is kind
    assert find_report(content.replace(b"\r\n", b"\n")) is kind
    assert find_report(content + b"x" * LOOKED_AT) is kind


@pytest.mark.parametrize("name", OTHERS)
def test_not_a_report(name: str) -> None:
    assert find_report(OTHERS[name]) is None


@pytest.mark.parametrize(
    ("value", "kind", "parameters"),
    [
        ("", "", {}),
        ("TEXT/Plain", "text/plain", {}),
        ('a/b; Boundary="x;y=\\"z"; q=1', "a/b", {"boundary": 'x;y="z', "q": "1"}),
        ("a/b;c=d;c=e;;", "a/b", {"c": "d"}),
        ('a/b; c="unclosed', "a/b", {}),
        ("a/b (comment; c=d); e=f", "a/b", {"e": "f"}),
    ],
)
def test_content_type(value: str, kind: str, parameters: dict[str, str]) -> None:
    assert parse_content_type(value) == (kind, parameters)


@pytest.mark.parametrize(
    "content",
    [
        b"Content-Type: multipart/report; boundary=a\r\n\r\n" + b"--a\r\n" * 400_000,
        b"Content-Type: multipart/report; boundary=a\r\n\r\n" + b"--" * 1_000_000,
        b"Content-Type: multipart/report; boundary=a\r\n\r\n" + b"--a\r\nContent-Type: multipart/x; boundary=a\r\n\r\n" * 40_000,
        b"Content-Type: " + b"(" * 2_000_000,
        b"Content-Type: a/b" + b';a="\\' * 400_000,
        b"Subject: Report domain: " + b"=?utf-8?q?x?=" * 100_000 + b"\r\nContent-Type: text/plain",
    ],
    ids=["parts", "dashes", "nested", "comments", "quotes", "words"],
)
def test_hostile_mail_takes_no_time(content: bytes) -> None:
    began = time.thread_time()
    assert find_report(content) is None
    assert time.thread_time() - began < 0.5
