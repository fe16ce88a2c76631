"""Publishes mail as tasks for Celery, confirmed: the load of (h), as lean as that of (b). Run as a process of its own.

    python -m tests.bench.celery_load URL --messages 10000 --size 5000 --domain h.example --window 500

A task is a message of Celery's protocol 2, as ``send.delay(envelope=…, recipient=…, mime=…)`` makes it. Prints what
``tests.bench.publisher`` prints.
"""

import json
from typing import Any

from pamqp import commands, frame, header

from tests.bench.amqp import render_body
from tests.bench.publisher import BLANK, SENDER, make_parser, render_content, render_number, run

QUEUE = "mail"
"""What the workers consume."""
RESULTS = "results"
"""Where each task puts its result."""
TASK = "bench.send"
_CHANNEL = 1


def render_task(size: int, domain: str) -> list[bytes]:
    """All frames of a task, cut where the number of its mail goes."""
    mail = {"envelope": SENDER, "recipient": f"r{BLANK}@{domain}", "mime": render_content(size, domain)}
    embed = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
    # With blanks, as Celery writes it.
    body = json.dumps([[], mail, embed]).encode()
    name = f"{BLANK}.{domain}"
    headers: dict[str, Any] = {
        "lang": "py",
        "task": TASK,
        "id": name,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": name,
        "parent_id": None,
        "argsrepr": "()",
        "kwargsrepr": "{}",
        "origin": "bench",
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    properties = commands.Basic.Properties(
        content_type="application/json", content_encoding="utf-8", headers=headers, delivery_mode=2, correlation_id=name
    )
    method = commands.Basic.Publish(exchange="", routing_key=QUEUE, mandatory=True)
    content = header.ContentHeader(body_size=len(body), properties=properties)
    frames = frame.marshal(method, _CHANNEL) + frame.marshal(content, _CHANNEL) + render_body(body)
    return frames.split(BLANK.encode())


def main() -> None:
    """Publish, then tell when."""
    given = make_parser("tests.bench.celery_load", __doc__).parse_args()
    template = render_task(given.size, given.domain)
    run(given, lambda number: render_number(template, number))


if __name__ == "__main__":
    main()
