"""Which call needs which scope: the one table.

A call that stands nowhere here needs ``rules``, or ``read`` when it only shows: a new one is never open by mistake.
"""

from collections.abc import Mapping

PROBES = frozenset({"/liveness", "/readiness"})
"""Answered to everybody, whatever else the request carries: they tell one bit."""
OPEN = frozenset({"/swagger", "/swagger/", "/openapi.json"})
"""Need no token: they say nothing that the source code does not say."""
SHOWS = frozenset({"GET", "HEAD"})

NEEDS: Mapping[str, str] = {
    "POST /v1/messages": "send",
    "POST /v1/inject": "send",
    "POST /v1/actions": "send",
    "POST /v1/config/test": "read",
}
"""Calls that differ from the rule. More is asked for what stands in a body: ``rules`` for the action ``redrive``, ``route`` for
``smarthost``, ``queues``, ``ips`` and ``key`` in a message (``services.json_inbox.intake``)."""


def find_scope(method: str, path: str) -> str | None:
    """The scope that a call needs; None: no token at all."""
    if path in OPEN and method in SHOWS:
        return None
    return NEEDS.get(f"{method} {path}") or ("read" if method in SHOWS else "rules")
