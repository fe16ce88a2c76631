"""The mails of the demo, and how each is expected to end."""

from dataclasses import dataclass

ZONE = {
    "good.example": {"MX": [(10, "mx1.good.example"), (20, "mx2.good.example")]},
    "mx1.good.example": {"A": "127.0.1.1"},
    "mx2.good.example": {"A": "127.0.1.2"},
    "careful.example": {"MX": [(10, "mx.careful.example")]},
    "mx.careful.example": {"A": "127.0.1.3"},
    "strict.example": {"MX": [(10, "mx.strict.example")]},
    "mx.strict.example": {"A": "127.0.1.4"},
    "no-mail.example": {"MX": "0 ."},
    "hospital.example": {"MX": [(10, "mx.hospital.example")]},
    "mx.hospital.example": {"A": "127.0.1.5"},
    "shop.example": {"MX": [(10, "mx.shop.example")]},
    "mx.shop.example": {"A": "127.0.1.6"},
}
"""The local internet: domains, their mail hosts and addresses. Every other name does not exist."""

MX_ADDRESSES = ("127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4", "127.0.1.5", "127.0.1.6")

SENDER = "news@shop.example"
SEAL_NOTIFIER = "no-reply@seal.example"

RULES = (
    {
        "name": "notifications-of-the-seal-service",
        "priority": 10,
        "configuration": {"params": {"channel": "json", "sender": SEAL_NOTIFIER}, "outbound": ["smtp"]},
    },
    {
        "name": "hospital-mail-is-sealed",
        "priority": 20,
        "configuration": {"params": {"recipient_domain": "hospital.example"}, "outbound": ["seal"]},
    },
)


@dataclass(frozen=True, slots=True)
class Expected:
    """One mail and its end."""

    recipient: str
    way: str
    """``smtp``, ``http`` or ``amqp``: how it is handed in; "" = nobody did: the pipeline or the seal service made it."""
    story: str
    attempts: tuple[str, ...]
    """``state/result/code`` of every attempt."""
    strategy: str = "smtp"
    copies: int = 1
    """How often the sink must have got it."""

    @property
    def is_delivered(self) -> bool:
        """Does it end on the queue ``success``?"""
        return self.attempts[-1].startswith("message/accepted")


MAILS = (
    Expected("ok+smtp@good.example", "smtp", "accepted", ("message/accepted/250",)),
    Expected("ok+http@good.example", "http", "accepted", ("message/accepted/250",)),
    Expected("ok+amqp@good.example", "amqp", "accepted", ("message/accepted/250",)),
    Expected("grey-1+http@careful.example", "http", "greylisted, then accepted", ("rcptto/error/451", "message/accepted/250")),
    Expected(
        "grey-2+amqp@careful.example",
        "amqp",
        "greylisted twice, then accepted",
        ("rcptto/error/451", "rcptto/error/451", "message/accepted/250"),
    ),
    Expected("reject-550+smtp@strict.example", "smtp", "refused for good", ("rcptto/error/550",), copies=0),
    Expected("somebody@unknown.example", "amqp", "unknown domain", ("dns/error/554",), copies=0),
    Expected("somebody@no-mail.example", "http", "domain without mail", ("dns/error/556",), copies=0),
    Expected("ok+patient@hospital.example", "http", "sealed", ("message/accepted/250",), strategy="seal"),
    Expected("ok+patient@hospital.example", "", "the seal service's notification", ("message/accepted/250",)),
    Expected(SENDER, "", "a report to the sender of the refused SMTP mail", ("message/accepted/250",)),
)
