"""Which key mail for local recipients gets."""

from typing import Any

import pytest

from services.smtp_inbox.settings import ServiceSettings
from services.smtp_inbox.sorting import address_mail, choose_local_key
from shared.acceptance import Streamed

BOUNCE = b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b--\r\n"
LETTER = b"Content-Type: text/plain\r\n\r\nhello\r\n"
DMARC = b"Subject: Report Domain: a.example Submitter: b.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
DMARC_BODY = b"--b\r\nContent-Type: application/zip\r\n\r\nx\r\n--b--\r\n"


def settings(**keys: str) -> ServiceSettings:
    return ServiceSettings.model_validate({"local_domains": ("example.com",), **keys})


@pytest.mark.parametrize(
    ("keys", "of_letter", "of_bounce"),
    [
        ({}, "", ""),
        ({"rabbitmq_local": "local"}, "local", "local"),
        ({"rabbitmq_reports": "reports"}, "", "reports"),
        ({"rabbitmq_local": "local", "rabbitmq_reports": "reports"}, "local", "reports"),
    ],
    ids=["neither", "local", "reports", "both"],
)
def test_the_keys(keys: dict[str, str], of_letter: str, of_bounce: str) -> None:
    assert choose_local_key(LETTER, settings(**keys)) == of_letter
    assert choose_local_key(BOUNCE, settings(**keys)) == of_bounce


def test_large_mail_is_known_by_its_beginning() -> None:
    upload: Any = None
    keys = settings(rabbitmq_local="local", rabbitmq_reports="reports")
    assert choose_local_key(Streamed(DMARC, 9_000_000, "", upload, DMARC_BODY), keys) == "reports"
    assert choose_local_key(Streamed(DMARC, 9_000_000, "", upload, b"--b\r\nContent-Type: text/plain\r\n"), keys) == "local"


def test_who_reads_a_key_of_its_own_gets_the_content() -> None:
    assert address_mail("a@example.com", {"dsn": {}}, "local").is_inline
    assert not address_mail("a@example.com", {}, "").is_inline
