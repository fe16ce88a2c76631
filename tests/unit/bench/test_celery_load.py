"""The tasks of (h) are what Celery itself would publish, and name one mail each."""

import json
from typing import Any

from celery import Celery
from pamqp import commands, frame, header
from pamqp.body import ContentBody

from tests.bench.celery_load import QUEUE, TASK, render_task
from tests.bench.publisher import render_content, render_number

DOMAIN = "h5-1.example"


def parse(octets: bytes) -> tuple[commands.Basic.Publish, Any, Any]:
    """Method, properties, document."""
    found: list[Any] = []
    while octets:
        count, channel, one = frame.unmarshal(octets)
        assert channel == 1
        found.append(one)
        octets = octets[count:]
    method, head, *bodies = found
    assert isinstance(head, header.ContentHeader)
    assert all(isinstance(body, ContentBody) for body in bodies)
    raw = b"".join(body.value for body in bodies)
    assert head.body_size == len(raw)
    return method, head.properties, json.loads(raw)


def test_a_task_is_a_persistent_mandatory_message_with_one_mail() -> None:
    method, properties, (args, mail, _) = parse(render_number(render_task(5000, DOMAIN), 42))
    assert (method.exchange, method.routing_key, method.mandatory) == ("", QUEUE, True)
    assert (properties.delivery_mode, properties.correlation_id) == (2, f"0000042.{DOMAIN}")
    assert args == []
    assert mail["recipient"] == f"r0000042@{DOMAIN}"
    assert mail["mime"] == render_content(5000, DOMAIN).replace("#######", "0000042")


def test_header_and_body_are_those_of_celery() -> None:
    _, properties, (args, mail, embed) = parse(render_number(render_task(5000, DOMAIN), 7))
    theirs = Celery("test").amqp.as_task_v2(f"0000007.{DOMAIN}", TASK, args, mail, ignore_result=True, origin="bench")
    assert json.loads(json.dumps(theirs.body)) == [args, mail, embed]
    assert theirs.properties["correlation_id"] == properties.correlation_id
    told = {"argsrepr", "kwargsrepr"}  # for logs
    assert {name: value for name, value in theirs.headers.items() if name not in told} == {
        name: value for name, value in properties.headers.items() if name not in told
    }
