"""The families of trouble. Anything else that is raised is a bug and propagates.

A remote refusal is not here: it is a value (``shared.mail.reply``), never an exception.
"""


class BadMessage(ValueError):
    """The message itself cannot be handled: it is parked with this text as the reason, never requeued."""


class Unavailable(Exception):
    """Something of ours (store, database, service behind us) is out of reach: no verdict about mail, no attempt counted."""


class BrokerLost(Exception):
    """The connection to RabbitMQ is gone or no longer as it should be: the process ends and is started again."""


class BadSetting(ValueError):
    """A setting, option or the topology is wrong: one line on stderr, exit code 2."""
