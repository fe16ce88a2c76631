"""Which routing key a mail for a local recipient gets (``rabbitmq-local``, ``rabbitmq-reports``). Pure."""

from services.smtp_inbox.settings import ServiceSettings
from shared.acceptance import Recipient, Streamed
from shared.mail.reports import find_report


def choose_local_key(content: bytes | Streamed, settings: ServiceSettings) -> str:
    """The key of the mail for its local recipients: that of reports, that of local mail; "": that of all mail.

    A key that is empty is off: then a report is local mail, and local mail is like any other.
    """
    if settings.rabbitmq_reports:
        looked_at = content.head + content.beginning if isinstance(content, Streamed) else content
        if find_report(looked_at) is not None:
            return settings.rabbitmq_reports
    return settings.rabbitmq_local


def address_mail(recipient: str, properties: dict[str, object], key: str) -> Recipient:
    """A recipient with its key. Readers of a key of its own know no store: they get the content in the message."""
    return Recipient(recipient, properties, key=key, is_inline=bool(key))
