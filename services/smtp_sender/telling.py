"""An attempt as results tell it: from how a session ended."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from services.smtp_sender.session import Ending, Session
from shared.wire.message import Message
from shared.wire.result import Attempt, Result


def tell(message: Message, ending: Ending, session: Session | None = None) -> Attempt:
    """The attempt in the words of a result. ``session``: the one it ended on, when the ending does not say."""
    reply, session = ending.reply, session or ending.session
    # A peer that says its code but no text, or a code without class, is told verbatim all the same.
    return Attempt(
        state=ending.state,
        result=ending.result,
        number=message.attempt,
        time=datetime.now(UTC),
        code=reply.code if reply else ending.code,
        status=reply.enhanced_status if reply else ending.status,
        description=reply.text if reply else ending.text,
        **({} if session is None else _describe(session, ending)),
    )


def _describe(session: Session, ending: Ending) -> Mapping[str, Any]:
    return {
        "mta": session.mta,
        "local_ip": session.local_ip,
        "remote_ip": session.remote_ip,
        "messages": session.messages,
        "sent": {"connection": session.bytes_sent, "data": session.data_sent},
        "authentication": session.authentication,
        "dsn": "DSN" in session.extensions if ending.result is Result.ACCEPTED else None,
        "cipher": session.tls.get("cipher"),
        "certificate": session.tls.get("certificate"),
    }
