"""Codes and texts that we make up when the verdict is ours and no peer has spoken. The only such table.

The class of the enhanced status (RFC 3463) is that of the code: 4 = may pass, 5 = final.
"""

from dataclasses import replace

from shared.wire.result import Attempt, Result, State

TEXTS: dict[tuple[State, Result], tuple[int, str, str]] = {
    (State.PROCESS, Result.TIMEOUT): (554, "5.4.7", "Delivery time expired"),
    (State.PROCESS, Result.ERROR): (554, "5.3.5", "No usable source address"),
    (State.PROCESS, Result.INVALID): (554, "5.5.2", "The message cannot be processed"),
    (State.SUPPRESSION, Result.ERROR): (554, "5.7.1", "The recipient is on the suppression list"),
    (State.STORAGE, Result.ERROR): (554, "5.3.0", "The content of the message is no longer in the message store"),
    (State.STORAGE, Result.INVALID): (554, "5.3.0", "The content in the message store is not the one that was accepted"),
    (State.STORAGE, Result.LOST): (451, "4.4.2", "Connection lost while the content was loaded"),
    (State.RESPONSIVE, Result.ERROR): (554, "5.6.0", "The structured mail cannot be turned into a message"),
    (State.PERSONALIZE, Result.ERROR): (554, "5.6.0", "The message cannot be personalized"),
    (State.DNS, Result.ERROR): (554, "5.1.2", "The domain of the recipient does not exist or accepts no mail"),
    (State.DNS, Result.TIMEOUT): (451, "4.4.3", "The name servers of the recipient's domain do not answer"),
    (State.BIND, Result.ERROR): (451, "4.3.5", "No local address to send from"),
    (State.CONNECT, Result.ERROR): (451, "4.4.1", "The host refused the connection or cannot be reached"),
    (State.CONNECT, Result.TIMEOUT): (451, "4.4.1", "The host does not answer"),
    (State.STARTTLS, Result.INVALID): (454, "4.7.0", "TLS handshake or verification failed"),
    (State.STARTTLS, Result.ERROR): (454, "4.7.0", "The host offers no TLS, which this message requires"),
}
_GENERAL: dict[Result, tuple[int, str, str]] = {
    Result.TIMEOUT: (451, "4.4.2", "No reply in time"),
    Result.LOST: (451, "4.4.2", "Connection lost"),
    Result.INVALID: (451, "4.5.0", "The reply is not SMTP"),
    Result.ERROR: (451, "4.0.0", "Refused"),
    Result.ACCEPTED: (250, "2.0.0", "Accepted"),
}


def fill_in(attempt: Attempt, *, permanent: bool = False) -> Attempt:
    """The attempt with code, status and description of ours where the peer gave none.

    ``permanent``: the verdict is final: a made-up 4xx becomes 5xx, so that code, status and verdict agree.
    """
    if attempt.code is not None:
        return attempt
    code, status, text = TEXTS.get((attempt.state, attempt.result), _GENERAL[attempt.result])
    status = attempt.status or status
    if permanent:
        status = "5" + status[1:]
    if status[0] != str(code)[0]:
        code = 554 if status[0] == "5" else 451
    return replace(attempt, code=code, status=status, description=attempt.description or text)
